"""Whose page is next, among the jobs that are in work.

One page is read at a time, by one engine. `fair` gives each job a page in turn, so that a
screenshot behind a book waits for a page of it and not for all; `fifo` sees one job through
before the next is begun. How a page is read is `serving`'s business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

Scheduling = Literal["fair", "fifo"]

T = TypeVar("T")


class Rotation(Generic[T]):
    """The jobs in work, the next one first."""

    def __init__(self) -> None:
        self._waiting: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[T]:
        return iter(self._waiting)

    def room(self, scheduling: Scheduling) -> bool:
        """Whether one more may be taken into work."""
        return scheduling == "fair" or not self._waiting

    def add(self, job: T) -> None:
        """Behind all others, each of which has one turn before it at most."""
        self._waiting.append(job)

    def next(self) -> T:
        """Whose turn it is."""
        return self._waiting[0]

    def turn_over(self, *, done: bool) -> None:
        """The first has had its turn: it leaves, or comes again after the others."""
        job = self._waiting.popleft()
        if not done:
            self._waiting.append(job)
