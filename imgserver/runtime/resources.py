"""CPUs, memory and open files that this process may use, and whether an optional decoder is installed."""

import contextlib
import math
import os
import resource
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

CGROUP = Path("/sys/fs/cgroup")


def cpus(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may use, at least 1: the quota of its cgroup (v2 or v1), bounded by the affinity mask."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota_v2(cgroup) or _quota_v1(cgroup)
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def memory_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that this process may use: the limit of its cgroup (v2 or v1), bounded by the memory of the machine."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _number(cgroup / "memory.max") or _number(cgroup / "memory" / "memory.limit_in_bytes")
    return min(installed, limit) if limit else installed


def raise_descriptor_limit() -> None:
    """Raises the limit of open files from the soft limit, often 1024, to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_descriptors() -> int:
    """How many files and sockets this process may still open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (sys.maxsize if soft == resource.RLIM_INFINITY else soft) - sum(1 for _ in Path("/dev/fd").iterdir())


def reads_heic() -> bool:
    """Whether the extra `heic` is installed. It is not imported: only workers do that (engine/heif.py)."""
    return find_spec("_pi_heif") is not None


def _quota_v2(cgroup: Path) -> float | None:
    quota, _, period = _text(cgroup / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _quota_v1(cgroup: Path) -> float | None:
    quota = _number(cgroup / "cpu" / "cpu.cfs_quota_us")  # without a quota it is -1, which is not a number here
    period = _number(cgroup / "cpu" / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


class OomKillCounter:
    """Counts the processes of this cgroup that the out-of-memory killer has killed.

    `fallback` says why the processes of the whole machine are counted instead; it is "" for the cgroup's own count.
    """

    def __init__(
        self, cgroup: Path = CGROUP, membership: Path = Path("/proc/self/cgroup"), vmstat: Path = Path("/proc/vmstat")
    ) -> None:
        self.fallback = ""
        for path in _oom_files(cgroup, membership):
            if "oom_kill" in _counts(path):
                self._path = path
                return
        self.fallback = f"no file below {cgroup} counts the kills of this cgroup"
        self._path = vmstat

    def read(self) -> int:
        """Kills so far; 0 where the kernel does not count them."""
        return _counts(self._path).get("oom_kill", 0)


def _oom_files(cgroup: Path, membership: Path) -> Iterator[Path]:
    """The files that may have the count, in their order. In a container, the path of the cgroup may be that of the
    host, while its files stand at the root."""
    paths: dict[str, str] = {}
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
    yield from (cgroup / folder / "memory.events" for folder in dict.fromkeys((paths.get("", ""), "")))
    yield from (
        cgroup / "memory" / folder / "memory.oom_control" for folder in dict.fromkeys((paths.get("memory", ""), ""))
    )


def _counts(path: Path) -> dict[str, int]:
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
