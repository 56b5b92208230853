import os

import pytest

from imgserver.runtime import resources


@pytest.fixture
def cgroup(tmp_path):
    def write(name: str, text: str):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n")
        return tmp_path

    return write


def test_a_cgroup_quota_bounds_the_cpus(cgroup):
    assert resources.cpus(cgroup("cpu.max", "50000 100000")) == 1


def test_a_quota_of_cgroup_v1_bounds_the_cpus(cgroup):
    cgroup("cpu/cpu.cfs_period_us", "100000")

    assert resources.cpus(cgroup("cpu/cpu.cfs_quota_us", "100000")) == 1


def test_without_a_quota_the_affinity_mask_bounds_the_cpus(cgroup, tmp_path):
    allowed = len(os.sched_getaffinity(0))

    assert resources.cpus(tmp_path) == allowed
    assert resources.cpus(cgroup("cpu.max", "max 100000")) == allowed
    assert resources.cpus(cgroup("cpu/cpu.cfs_quota_us", "-1")) == allowed


def test_a_quota_never_exceeds_the_affinity_mask(cgroup):
    assert resources.cpus(cgroup("cpu.max", "6400000 100000")) == len(os.sched_getaffinity(0))


def test_memory_is_bounded_by_the_limit_and_by_the_machine(cgroup, tmp_path):
    installed = resources.memory_bytes(tmp_path)

    assert resources.memory_bytes(cgroup("memory.max", "104857600")) == 104857600
    assert resources.memory_bytes(cgroup("memory.max", "max")) == installed
    assert resources.memory_bytes(cgroup("memory.max", str(1 << 62))) == installed


def test_kills_by_the_out_of_memory_killer_are_counted(tmp_path):
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 17\noom_kill 3\n")

    assert resources.oom_kills(vmstat) == 3
    assert resources.oom_kills(tmp_path / "absent") == 0
