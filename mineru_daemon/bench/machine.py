"""What a figure was measured on: processor, memory, system, and how busy it was."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
"""Of /proc/cpuinfo, those that kernels of matrices are chosen by."""


def facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Model and flags of the CPU, CPUs of this process, memory, kernel, load of the minute."""
    fields: dict[str, str] = {}
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    present = fields.get("flags", fields.get("Features", "")).split()
    return {
        "cpu": fields.get("model name", platform.machine()),
        "flags": [flag for flag in FLAGS if flag in present],
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def told() -> dict[str, Any]:
    """The facts of this machine, which are printed first of all."""
    found = facts()
    print(describe(found), flush=True)
    return found


def stolen_seconds(stat: Path = Path("/proc/stat")) -> float:
    """CPU time that the hypervisor gave to others since boot, of all CPUs."""
    columns = stat.read_text().split("\n", 1)[0].split()
    return int(columns[8]) / os.sysconf("SC_CLK_TCK")


def describe(found: dict[str, Any]) -> str:
    """One line."""
    flags = " ".join(found["flags"]) or "none of the known flags"
    return (
        f"{found['cpu']} ({flags}), {found['cpus']} CPUs, {found['memory_gib']:.0f} GiB, "
        f"Linux {found['kernel']}, Python {found['python']}, load {found['load']:.2f}"
    )
