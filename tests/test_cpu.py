"""What the unit grants: made-up cgroup trees, and this very process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mineru_daemon import cpu


def membership(folder: Path, *lines: str) -> Path:
    path = folder / "membership"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def unified(root: Path, group: str, cpu_max: str) -> None:
    (root / group).mkdir(parents=True, exist_ok=True)
    (root / group / "cpu.max").write_text(f"{cpu_max}\n")


def legacy(root: Path, group: str, quota: int, period: int = 100_000) -> None:
    (root / group).mkdir(parents=True, exist_ok=True)
    (root / group / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (root / group / "cpu.cfs_period_us").write_text(f"{period}\n")


def test_a_quota_of_the_own_group_counts(tmp_path: Path) -> None:
    unified(tmp_path, "system.slice/a.service", "150000 100000")
    member = membership(tmp_path, "0::/system.slice/a.service")
    assert cpu.cgroup_quota(member, [tmp_path], []) == 1.5


def test_the_smallest_quota_among_the_parents_counts(tmp_path: Path) -> None:
    unified(tmp_path, "system.slice", "50000 100000")
    unified(tmp_path, "system.slice/a.service", "300000 100000")
    member = membership(tmp_path, "0::/system.slice/a.service")
    assert cpu.cgroup_quota(member, [tmp_path], []) == 0.5


def test_no_quota_is_no_bound(tmp_path: Path) -> None:
    unified(tmp_path, "a.service", "max 100000")
    legacy(tmp_path / "cpu", "a.service", -1)
    member = membership(tmp_path, "3:cpu,cpuacct:/a.service", "0::/a.service")
    assert cpu.cgroup_quota(member, [tmp_path], [tmp_path / "cpu"]) is None


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_cgroup_v1_is_read_whatever_the_controllers_are_called(
    tmp_path: Path, controllers: str
) -> None:
    legacy(tmp_path, "a.service", 20_000, 10_000)
    member = membership(tmp_path, "9:cpuset:/", f"4:{controllers}:/a.service")
    assert cpu.cgroup_quota(member, [], [tmp_path]) == 2.0


def test_in_a_hybrid_the_smaller_of_v1_and_v2_counts(tmp_path: Path) -> None:
    unified(tmp_path / "unified", "a", "400000 100000")
    legacy(tmp_path / "cpu", "b", 100_000)
    member = membership(tmp_path, "1:cpu:/b", "0::/a")
    assert cpu.cgroup_quota(member, [tmp_path / "unified"], [tmp_path / "cpu"]) == 1.0


def test_in_a_container_the_mounted_root_counts(tmp_path: Path) -> None:
    unified(tmp_path, ".", "200000 100000")
    for path in ("/kubepods/pod1/c1", "/../../c1"):
        assert cpu.cgroup_quota(membership(tmp_path, f"0::{path}"), [tmp_path], []) == 2.0


def test_unreadable_or_odd_files_are_no_bound(tmp_path: Path) -> None:
    assert cpu.cgroup_quota(tmp_path / "none", [tmp_path], [tmp_path]) is None
    unified(tmp_path, "a", "what is this")
    legacy(tmp_path, "a", 100_000, 0)
    member = membership(tmp_path, "0::/a", "1:cpu:/a", "nonsense", "")
    assert cpu.cgroup_quota(member, [tmp_path], [tmp_path]) is None


@pytest.mark.parametrize(
    ("mask", "quota", "threads"),
    [
        (8, None, 4),
        (2, None, 2),
        (8, 0.5, 1),
        (8, 1.2, 2),
        (1, 3.0, 1),
        (None, None, 4),
    ],
)
def test_threads_are_bounded_by_setting_mask_and_quota(
    mask: int | None, quota: float | None, threads: int
) -> None:
    plan = cpu.plan_threads(4, 2, mask=mask, quota=quota)
    assert plan.intra == threads
    assert plan.inter == min(2, threads)


def test_there_is_always_one_thread() -> None:
    assert cpu.plan_threads(0, 0, mask=0, quota=0.01).intra == 1
    assert cpu.plan_threads(0, 0).inter == 1


def test_the_plan_of_this_process_stays_within_its_mask() -> None:
    assert cpu.granted_threads(intra=10_000).intra <= len(os.sched_getaffinity(0))


def test_libraries_are_limited_and_a_smaller_wish_is_kept() -> None:
    environ = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "64", "MKL_NUM_THREADS": "many"}
    cpu.limit_libraries(cpu.plan_threads(2), environ)
    assert environ == {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
    }
