"""A full disk and a read-only disk below everything that the server writes: the disk tier, the temporary folders of
workers, the log. The disk is a real, small file system."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from imgserver.runtime.files import TEMPORARY_SUFFIX
from tests.running_server import Answer, ServerProcess, serving, wait_until

FORMATS = ("jpg", "webp", "png", "avif", "gif", "tiff")


def settings(disk: Path) -> dict[str, object]:
    """No memory tier, so that every hit is read from the disk."""
    own = {"disk_path": disk / "cache", "disk_retry_delay_seconds": 0.5, "cache_memory_bytes": 0, "workers_count": 2}
    return {**own, "variables": {"TMPDIR": str(disk / "tmp")}}


@pytest.fixture
def own(disk) -> Iterator[ServerProcess]:
    with serving(**settings(disk)) as running:
        yield running


def fill(disk: Path) -> Path:
    """Fills the disk to its last block. Returns the file to delete."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def ask_for_all(server: ServerProcess) -> list[Answer]:
    """Requests new pictures in every format."""
    return [server.ask(f"/img/w_{width},f_{format}/cat.png") for width in (60, 61, 62) for format in FORMATS]


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)


def records(disk: Path) -> int:
    return sum(path.suffix != TEMPORARY_SUFFIX for path in (disk / "cache").glob("??/??/*"))


def state(server: ServerProcess) -> str:
    return server.ask("/api/health").json()["status"]


@pytest.fixture
def own_with_log(disk) -> Iterator[ServerProcess]:
    with serving(**settings(disk), under=("sh", "-c", f'exec "$0" "$@" 2>>{disk}/log')) as running:
        yield running


def test_a_full_disk_fails_no_request_and_is_used_again_when_it_has_space(own_with_log, disk):
    own = own_with_log
    own.ask("/img/w_50/cat.png")
    wait_until(lambda: records(disk) == 1, "it is on disk")
    filler = fill(disk)
    answers = ask_for_all(own)
    cached = own.ask("/img/w_50/cat.png")

    wait_until(lambda: own.ask("/img/w_53/cat.png").status == 200 and state(own) == "degraded", "health reports it")

    assert {answer.status for answer in answers} == {200}
    assert cached.cache_status == "imgserver; hit"
    assert own.metric("imgserver_cache_dropped_writes_total", tier="disk", reason="error") >= 1
    assert own.metric("imgserver_cache_dropped_writes_total", tier="disk", reason="paused") >= 1
    filler.unlink()
    numbers = iter(range(100, 1000))
    wait_until(lambda: own.ask(f"/img/w_{next(numbers)}/cat.png").status == 200 and records(disk) > 1, "it is written")
    wait_until(lambda: state(own) == "ok", "health reports that, too")


def test_a_read_only_disk_serves_hits_and_fails_no_request(own, disk):
    own.ask("/img/w_50/cat.png")
    wait_until(lambda: records(disk) == 1, "it is on disk")
    remount(disk, "ro")
    answers = ask_for_all(own)
    cached = own.ask("/img/w_50/cat.png")
    remount(disk, "rw")

    assert {answer.status for answer in answers} == {200}
    assert cached.cache_status == "imgserver; hit"


def test_workers_killed_on_a_read_only_disk_are_replaced_when_it_is_writable(own, disk):
    wait_until(lambda: len(own.workers()) == 3, "all workers are up")
    remount(disk, "ro")
    for worker in own.workers():
        worker.kill()
    wait_until(lambda: own.ask("/readyz").status == 503, "no worker is left")
    refused = own.ask("/img/w_51/cat.png")
    remount(disk, "rw")

    assert (refused.status, own.ask("/livez").status) == (503, 200)
    wait_until(lambda: own.ask("/img/w_52/cat.png").status == 200, "pictures again", seconds=15)
