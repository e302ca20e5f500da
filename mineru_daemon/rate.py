"""How many files per minute a source may have read. Delays, never drops."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 60.0


class RateLimiter:
    """At most `per_minute` files of one source in any minute; 0 lets all pass."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self._taken: dict[str, deque[float]] = {}

    def delay(self, source: str, now: float) -> float:
        """Seconds until this source may have a file taken; 0 when it may now."""
        taken = self._taken.get(source)
        if not self.per_minute or not taken:
            return 0.0
        window, allowed = self._window()
        while taken and now - taken[0] >= window:
            taken.popleft()
        if not taken:
            del self._taken[source]
            return 0.0
        return 0.0 if len(taken) < allowed else taken[-allowed] + window - now

    def take(self, source: str, now: float) -> None:
        """A file of this source was taken."""
        if self.per_minute:
            self._taken.setdefault(source, deque()).append(now)

    def _window(self) -> tuple[float, int]:
        """Length of the window in seconds, and files in it: 0.5 a minute is 1 in two."""
        allowed = max(1, int(self.per_minute))
        return WINDOW_SECONDS * allowed / self.per_minute, allowed
