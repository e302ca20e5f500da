"""What the unit grants: affinity mask and cgroup quota -> a thread plan.

Reads `/proc` and `/sys` only. Creating threads is left to `engines/onnx.py`, the
configured numbers to the settings.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")

UNIFIED_ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
"""Where cgroup v2 is mounted: alone, and beside v1 ("hybrid")."""

LEGACY_ROOTS = (Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup/cpu"))
"""Where the cpu controller of cgroup v1 is mounted."""

LIBRARY_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Read by numerical libraries (NumPy's OpenBLAS among them) while they are loaded."""


SPIN_MICROSECONDS = 10
"""Most operators of a step of decoding follow on each other sooner than that, and to put a thread
to sleep and wake it costs more."""


@dataclass(frozen=True)
class ThreadPlan:
    """How many threads may compute at the same time, and why."""

    intra: int
    """Threads that share one operator, the calling one among them."""
    inter: int
    """Operators at the same time; of no effect where a graph runs in sequence."""
    mask: int
    """CPUs in the affinity mask."""
    quota: float | None
    """CPUs granted by the cgroup, None if it sets no bound."""
    spin_microseconds: int = SPIN_MICROSECONDS
    """How long a thread waits awake for its next part of a run, before it sleeps."""


def plan_threads(
    intra: int = 4,
    inter: int = 2,
    *,
    mask: int | None = None,
    quota: float | None = None,
    spin_microseconds: int = SPIN_MICROSECONDS,
) -> ThreadPlan:
    """Bound the configured numbers by a mask and a quota in CPUs (None: no bound).

    A quota of 1.5 CPUs allows two threads: each of them can then be throttled, but one
    alone could not use what is granted.
    """
    bounds = [intra]
    if mask is not None:
        bounds.append(mask)
    if quota is not None:
        bounds.append(math.ceil(quota))
    threads = max(1, min(bounds))
    return ThreadPlan(
        intra=threads,
        inter=max(1, min(inter, threads)),
        mask=threads if mask is None else mask,
        quota=quota,
        spin_microseconds=spin_microseconds,
    )


def granted_threads(
    intra: int = 4, inter: int = 2, spin_microseconds: int = SPIN_MICROSECONDS
) -> ThreadPlan:
    """The plan for this process, from its own affinity mask and cgroups."""
    return plan_threads(
        intra,
        inter,
        mask=affinity(),
        quota=cgroup_quota(),
        spin_microseconds=spin_microseconds,
    )


def affinity() -> int:
    """Number of CPUs in this process's affinity mask, which is that of its main thread."""
    return len(os.sched_getaffinity(os.getpid()))


def share_affinity() -> None:
    """Put the main thread's affinity mask on all threads of this process.

    `taskset --pid` without `--all-tasks` changes the main thread alone. Nothing is done where
    the calling thread has that mask already, nor where the unit's sandbox refuses it.
    """
    mask = os.sched_getaffinity(os.getpid())
    if os.sched_getaffinity(0) == mask:
        return
    for thread in Path("/proc/self/task").iterdir():
        # It may have ended meanwhile.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(thread.name), mask)


def cgroup_quota(
    membership: Path = MEMBERSHIP,
    unified_roots: Iterable[Path] = UNIFIED_ROOTS,
    legacy_roots: Iterable[Path] = LEGACY_ROOTS,
) -> float | None:
    """The smallest CPU quota of the process's groups and their parents, in CPUs.

    None if no group sets one or none can be read. Inside a container the path in
    `membership` may not exist below the mounted root; the root itself then counts.
    """
    try:
        text = _text(membership)
    except OSError:
        return None
    unified, legacy = _group_paths(text)
    quotas = []
    if unified is not None:
        quotas += [_unified_quota(group) for group in _lineage(unified_roots, unified)]
    if legacy is not None:
        quotas += [_legacy_quota(group) for group in _lineage(legacy_roots, legacy)]
    return min((quota for quota in quotas if quota is not None), default=None)


def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the kernel says that the CPU can do: `avx2`, `avx512_vnni`, on ARM `asimddp`, …"""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(values.split())
    return frozenset()


def limit_libraries(plan: ThreadPlan, environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep numerical libraries that are loaded from now on within the plan.

    To be called before NumPy is imported: its OpenBLAS starts its threads when loaded.
    A smaller number that is already set is kept.
    """
    for name in LIBRARY_VARIABLES:
        value = environ.get(name, "")
        if not (value.isdigit() and 1 <= int(value) <= plan.intra):
            environ[name] = str(plan.intra)


def _group_paths(text: str) -> tuple[str | None, str | None]:
    """Paths of the v2 group and of the v1 cpu group in the lines of `/proc/PID/cgroup`."""
    unified = legacy = None
    for line in text.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            unified = path
        elif "cpu" in controllers.split(","):
            legacy = path
    return unified, legacy


def _lineage(roots: Iterable[Path], path: str) -> Iterator[str]:
    """The group's folder and those of its parents, below every root that is there."""
    # A process outside its cgroup namespace's root sees "/../.." in its path.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    # Strings, as this is done every few seconds: half of the time went into Path objects.
    for root in map(os.fspath, roots):
        if os.path.isdir(root):  # noqa: PTH112
            for depth in range(len(parts), -1, -1):
                yield "/".join([root, *parts[:depth]])


def _unified_quota(group: str) -> float | None:
    """`cpu.max` holds "QUOTA PERIOD" in microseconds, or "max PERIOD"."""
    try:
        quota, period = _text(group + "/cpu.max").split()
        return _ratio(int(quota), int(period))
    except (OSError, ValueError):
        return None


def _legacy_quota(group: str) -> float | None:
    """Quota and period in microseconds; a quota of -1 is no bound."""
    try:
        quota = int(_text(group + "/cpu.cfs_quota_us"))
        period = int(_text(group + "/cpu.cfs_period_us"))
    except (OSError, ValueError):
        return None
    return _ratio(quota, period)


def _text(path: str | Path) -> str:
    """The content of one of the kernel's small files; a buffered file would take thrice as long."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, 65536).decode()
    finally:
        os.close(handle)


def _ratio(quota: int, period: int) -> float | None:
    return quota / period if quota > 0 and period > 0 else None
