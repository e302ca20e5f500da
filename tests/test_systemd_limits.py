"""What the unit grants the service under a real systemd: measured, and followed.

A busy machine may give a service less than it is granted at any time. So only upper bounds
are measured, and that the kernel did stop it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from systemd_service import DOCUMENTS, SAMPLE, Service, needs_systemd, service

import mineru_daemon

pytestmark = needs_systemd

PAGES = 40
"""Enough for SECONDS at the least quota of these tests, on a CPU that reads one in 0.15 s."""
LONG = "long.pdf"
SECONDS = 10
"""How long a share is measured."""
TOLERANCE = 1.05
"""The kernel accounts for slices of 5 ms in periods of 100 ms."""

CPUS = min(4, len(os.sched_getaffinity(0)))
several_cpus = pytest.mark.skipif(CPUS < 2, reason="one CPU alone cannot be made fewer")


@pytest.fixture(scope="module")
def mineru(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("systemd")) as booted:
        sample = Path(mineru_daemon.__file__).parent / "samples/order-desk.png"
        page = Image.open(sample).convert("RGB")
        path = booted.documents / LONG
        page.save(path, save_all=True, append_images=[page] * (PAGES - 1), resolution=100)
        path.chmod(0o644)
        yield booted


def masks(mineru: Service) -> set[str]:
    """The CPUs that the daemon's threads may use."""
    script = f"cat /proc/{mineru.pid}/task/*/status"
    lines = mineru.shell(script).splitlines()
    return {line.split()[1] for line in lines if line.startswith("Cpus_allowed_list:")}


def seconds_used(mineru: Service) -> float:
    """CPU seconds of all processes of the service, system calls included: proc(5), stat."""
    processes = mineru.run("cat", f"{mineru.cpu_group()}/cgroup.procs").split()
    lines = mineru.run("cat", *(f"/proc/{pid}/stat" for pid in processes)).splitlines()
    fields = [line.rpartition(")")[2].split() for line in lines]
    ticks = sum(int(user) + int(system) for one in fields for user, system in [one[11:13]])
    return ticks / os.sysconf("SC_CLK_TCK")


def share(mineru: Service) -> float:
    """CPUs that the whole service used, as a mean over SECONDS."""
    began = time.monotonic()
    used = seconds_used(mineru)
    time.sleep(SECONDS)
    used = seconds_used(mineru) - used
    found = used / (time.monotonic() - began)
    print(f"share {found:.3f}")
    return found


def throttled(mineru: Service) -> int:
    """How often the kernel has stopped the service because its share was used up."""
    facts = dict(
        line.split() for line in mineru.run("cat", f"{mineru.cpu_group()}/cpu.stat").splitlines()
    )
    return int(facts["nr_throttled"])


def begin_to_read(mineru: Service) -> None:
    mineru.deliver(DOCUMENTS / LONG)
    mineru.until(lambda: mineru.events("page"))


CONFIG = 'settle_seconds = 0.2\nlog_level = "debug"'


def test_the_threads_are_those_of_the_mask_and_all_stay_within_it(mineru: Service) -> None:
    cpu = min(os.sched_getaffinity(0))
    mineru.fresh("CPUAffinity=", f"CPUAffinity={cpu}", config=CONFIG)
    [ready] = mineru.events("engine-ready")
    assert (ready["threads"], ready["cpus"], ready["quota"]) == (1, 1, 4.0)
    assert mineru.state("StatusText").startswith("serving with 1 thread;")
    begin_to_read(mineru)
    assert share(mineru) <= TOLERANCE
    assert masks(mineru) == {str(cpu)}
    status = mineru.status()
    assert (status["threads"], status["cpus"], status["cpu_quota"]) == (1, 1, 4.0)


def test_a_quota_bounds_the_share_over_a_long_job_and_the_threads(mineru: Service) -> None:
    mineru.fresh("CPUQuota=30%", config=CONFIG)
    [ready] = mineru.events("engine-ready")
    assert (ready["threads"], ready["cpus"], ready["quota"]) == (1, CPUS, 0.3)
    begin_to_read(mineru)
    before = throttled(mineru)
    assert share(mineru) <= 0.3 * TOLERANCE
    assert throttled(mineru) > before
    assert mineru.status()["current"]["pages"] == PAGES  # It was at work all the time.


@several_cpus
def test_a_quota_that_changes_in_the_midst_of_a_document_is_followed(mineru: Service) -> None:
    mineru.fresh(config=CONFIG)
    [ready] = mineru.events("engine-ready")
    assert (ready["threads"], ready["cpus"], ready["quota"]) == (CPUS, CPUS, 4.0)
    assert mineru.state("StatusText").startswith(f"serving with {CPUS} threads;")
    pid = mineru.pid
    begin_to_read(mineru)
    mineru.set_property("CPUQuota=30%")
    mineru.until(lambda: mineru.events("threads-changed"))
    before = throttled(mineru)
    assert share(mineru) <= 0.3 * TOLERANCE
    assert throttled(mineru) > before
    [less] = mineru.events("threads-changed")
    assert (less["before"], less["threads"], less["quota"]) == (CPUS, 1, 0.3)
    mineru.until(lambda: mineru.state("StatusText").startswith("serving with 1 thread;"))
    status = mineru.status()
    assert (status["threads"], status["cpus"], status["cpu_quota"]) == (1, CPUS, 0.3)

    mineru.set_property("CPUQuota=400%")
    mineru.until(lambda: len(mineru.events("threads-changed")) == 2)
    assert mineru.events("threads-changed")[1]["threads"] == CPUS
    mineru.until(lambda: mineru.status()["threads"] == CPUS)

    result = mineru.result(LONG)
    assert result["status"] == "success"
    assert result["engine"]["settings"]["intra_op_num_threads"] == CPUS
    assert [event["page"] for event in mineru.events("page")] == list(range(PAGES))
    assert mineru.pid == pid


@several_cpus
def test_cpus_that_are_taken_away_while_it_runs_are_not_used_any_more(mineru: Service) -> None:
    mineru.fresh(config=CONFIG)
    cpu = str(min(os.sched_getaffinity(0)))
    mineru.run("taskset", "--all-tasks", "--cpu-list", "--pid", cpu, mineru.pid)
    mineru.until(lambda: mineru.status()["threads"] == 1)
    begin_to_read(mineru)
    [less] = mineru.events("threads-changed")
    assert (less["threads"], less["cpus"]) == (1, 1)
    assert masks(mineru) == {cpu}


def numa() -> str:
    """Why memory cannot be bound to a node here, or nothing."""
    if not Path("/proc/self/numa_maps").exists():
        return "the kernel was built without NUMA"
    return ""


@pytest.mark.skipif(bool(numa()), reason=numa())
def test_its_memory_and_its_threads_can_be_bound_to_a_numa_node(mineru: Service) -> None:
    """As the unit's comment tells; every machine has a node 0."""
    mineru.fresh(
        *("NUMAPolicy=bind", "NUMAMask=0", "CPUAffinity=", "CPUAffinity=numa"), config=CONFIG
    )
    mineru.deliver(SAMPLE)
    assert mineru.result(SAMPLE.name)["status"] == "success"
    policies = {
        line.split()[1] for line in mineru.run("cat", f"/proc/{mineru.pid}/numa_maps").splitlines()
    }
    assert policies == {"bind:0"}
    cpus = Path("/sys/devices/system/node/node0/cpulist").read_text().strip()
    assert masks(mineru) == {cpus}
