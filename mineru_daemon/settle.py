"""Is this file finished being written? A pure state machine over what was seen.

Knows paths, identities and the time of a monotonic clock; nothing of disks, events or
content. `lookout` feeds it, `inbox` asks what is due.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mineru_daemon.storage import Identity

PAUSE_FACTOR = 2.0
"""A writer that paused once is given this many times its longest pause before it counts
as finished: scanners pause alike from page to page (0.2 to 6 s were seen)."""


@dataclass(slots=True)
class _Sighting:
    identity: Identity
    age: int
    first: float
    since: float
    quiet: float
    refused: bool = False
    not_before: float = 0.0


class Settler:
    """The files that are watched, each with when it was last seen to change."""

    def __init__(self, settle_seconds: float, append_seconds: float) -> None:
        self.settle_seconds = settle_seconds
        self.append_seconds = append_seconds
        self._sightings: dict[Path, _Sighting] = {}

    def __len__(self) -> int:
        return len(self._sightings)

    def __contains__(self, key: Path) -> bool:
        return key in self._sightings

    def see(self, key: Path, identity: Identity, now: float, age: int | None = None) -> None:
        """A file was seen in this state at this time. Files are offered by `age`, the
        smallest first; it is the time of the last change where nothing else is said."""
        known = self._sightings.get(key)
        age = identity.mtime_ns if age is None else age
        if known is None:
            self._sightings[key] = _Sighting(identity, age, now, now, self.settle_seconds)
        elif known.identity != identity:
            pause = now - known.since
            patience = min(pause * PAUSE_FACTOR, self.append_seconds)
            quiet = max(known.quiet, patience, self.settle_seconds)
            self._sightings[key] = _Sighting(identity, age, known.first, now, quiet)

    def forget(self, key: Path) -> None:
        """A file is gone, or was claimed."""
        self._sightings.pop(key, None)

    def refuse(self, key: Path) -> None:
        """The file was still, but its content is not complete: wait until it changes."""
        self._sightings[key].refused = True

    def wait(self, key: Path, seconds: float) -> bool:
        """Ask for a longer quiet time for this file; whether it has to wait any more."""
        sighting = self._sightings[key]
        longer = seconds > sighting.quiet
        sighting.quiet = max(sighting.quiet, seconds)
        return longer

    def postpone(self, key: Path, until: float) -> None:
        """Do not offer the file before this time, though it is still."""
        self._sightings[key].not_before = until

    def identity(self, key: Path) -> Identity:
        """The state in which the file was last seen."""
        return self._sightings[key].identity

    def still(self, key: Path, now: float) -> float:
        """For how many seconds the file has been seen unchanged."""
        return now - self._sightings[key].since

    def settled(self, now: float) -> Iterator[Path]:
        """Files that have been still for long enough and were not refused, oldest first."""
        keys = [
            (sighting.age, key)
            for key, sighting in self._sightings.items()
            if not sighting.refused and _due(sighting) <= now
        ]
        return iter([key for _, key in sorted(keys, key=lambda pair: pair[0])])

    def refused(self, now: float, seconds: float) -> Iterator[Path]:
        """Incomplete files that have been still for this long."""
        return iter(
            [
                key
                for key, sighting in self._sightings.items()
                if sighting.refused and now - sighting.since >= seconds
            ]
        )

    def stuck(self, now: float) -> int:
        """How many files wait for something else than their turn."""
        return sum(1 for s in self._sightings.values() if s.refused or s.not_before > now)

    def unfinished(self, now: float, seconds: float) -> list[Path]:
        """Files that have been known for this long and were changed again just now."""
        return [
            key
            for key, s in self._sightings.items()
            if now - s.first >= seconds and s.since + s.quiet > now
        ]

    def next_due(self, now: float, incomplete_seconds: float) -> float | None:
        """Seconds until the next file can become settled or expire; None if none can."""
        return min(
            (
                max(0.0, (s.since + incomplete_seconds if s.refused else _due(s)) - now)
                for s in self._sightings.values()
            ),
            default=None,
        )

    def known(self) -> list[Path]:
        """All files that are watched."""
        return list(self._sightings)


def _due(sighting: _Sighting) -> float:
    return max(sighting.since + sighting.quiet, sighting.not_before)
