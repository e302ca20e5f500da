"""What is mounted where: the file system that a path lies on, and whether others change it too."""

from __future__ import annotations

import os
import re
from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "glusterfs",
        "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "prl_fs", "smb3", "smbfs",
        "vboxsf", "virtiofs", "vmhgfs",
    }
)  # fmt: skip
"""Where changes are made by others behind the kernel's back: inotify sees its own only.
FUSE (`fuse`, `fuse.sshfs`, …) counts too; `fuseblk` is a local disk."""


def mount_points(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[tuple[str, str]]:
    """Mount point and file system type of every mount, in the order they were made.

    Source: proc_pid_mountinfo(5). Empty where it cannot be told.
    """
    try:
        lines = mountinfo.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, types = left.split(), right.split()
        if len(fields) >= 5 and types:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
            found.append((point, types[0]))
    return found


def lies_on(real: str, point: str) -> bool:
    """Whether a path without links lies at or below a mount point."""
    return real == point or real.startswith(point.rstrip("/") + "/")


def file_system_type(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Type of the file system that `path` lies on, '' if it cannot be told.

    The last mount on the longest mount point wins.
    """
    real = os.path.realpath(path)
    best, kind = -1, ""
    for point, file_system in mount_points(mountinfo):
        if lies_on(real, point) and len(point) >= best:
            best, kind = len(point), file_system
    return kind


def is_network(kind: str) -> bool:
    """Whether a file system of this type can change without inotify telling."""
    return kind in NETWORK_FILE_SYSTEMS or kind == "fuse" or kind.startswith("fuse.")
