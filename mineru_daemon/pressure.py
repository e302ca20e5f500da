"""How much others want the CPU: the kernel's pressure stall information (PSI).

`some` is the share of time in which at least one task that could run had to wait for a CPU;
see the kernel's Documentation/accounting/psi.rst. Not every kernel keeps it (`psi=1`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CPU = Path("/proc/pressure/cpu")


@dataclass(frozen=True)
class Pressure:
    """Of the whole machine."""

    recent: float
    """Percent of the last ten seconds."""
    total: int
    """Microseconds since boot."""

    def since(self, before: Pressure, seconds: float) -> float:
        """Percent of the `seconds` that lie between two looks."""
        return (self.total - before.total) / (seconds * 1e4)


def read(path: Path = CPU) -> Pressure | None:
    """The pressure now, None where the kernel does not tell."""
    try:
        for line in path.read_text().splitlines():
            kind, *pairs = line.split()
            if kind == "some":
                values = dict(pair.split("=") for pair in pairs)
                return Pressure(float(values["avg10"]), int(values["total"]))
    except (OSError, ValueError, KeyError):
        return None
    return None
