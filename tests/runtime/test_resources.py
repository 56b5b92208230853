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


V2 = "0::/pod/one\n"
V1 = "5:cpu,cpuacct:/\n4:memory:/docker/one\n0::/\n"
EVENTS, CONTROL = "low 0\noom 5\noom_kill 3\n", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"


@pytest.mark.parametrize(
    ("membership", "name", "text"),
    [
        pytest.param(V2, "pod/one/memory.events", EVENTS, id="version 2"),
        pytest.param(V2, "memory.events", EVENTS, id="version 2 in a container"),
        pytest.param(V1, "memory/docker/one/memory.oom_control", CONTROL, id="version 1"),
        pytest.param(V1, "memory/memory.oom_control", CONTROL, id="version 1 in a container"),
    ],
)
def test_kills_by_the_out_of_memory_killer_are_those_of_the_own_cgroup(tmp_path, membership, name, text):
    (tmp_path / "vmstat").write_text("oom_kill 70\n")
    (tmp_path / "self").write_text(membership)
    path = tmp_path / "cgroup" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    counter = resources.OomKillCounter(tmp_path / "cgroup", tmp_path / "self", tmp_path / "vmstat")

    assert (counter.read(), counter.fallback) == (3, "")
    path.write_text(text.replace("oom_kill 3", "oom_kill 4"))
    assert counter.read() == 4


def test_without_a_count_of_the_cgroup_the_kills_of_the_machine_are_counted_with_the_reason(tmp_path):
    (tmp_path / "vmstat").write_text("nr_free_pages 17\noom_kill 3\n")
    counter = resources.OomKillCounter(tmp_path, tmp_path / "absent", tmp_path / "vmstat")

    assert counter.read() == 3
    assert counter.fallback == f"no file below {tmp_path} counts the kills of this cgroup"
    assert resources.OomKillCounter(tmp_path, tmp_path / "absent", tmp_path / "absent").read() == 0
