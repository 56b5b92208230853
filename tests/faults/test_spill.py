"""Animations over 100 MB are decoded into a temporary file of libvips: where it lies, what remains of it, and what
happens when there is no room for it. A real, small disk."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from tests import decompression_bombs
from tests.running_server import SAMPLES, Answer, ServerProcess, serving, wait_until

LARGE = "/img/w_60,f_gif/large.gif"
SMALL = "/img/w_60,f_gif/small.gif"


@pytest.fixture(scope="module")
def animations(tmp_path_factory) -> Path:
    """147 and 6 MB of pixels."""
    folder = tmp_path_factory.mktemp("animations")
    (folder / "large.gif").write_bytes(decompression_bombs.many_frames_gif(frames=49))
    (folder / "small.gif").write_bytes(decompression_bombs.many_frames_gif(frames=2))
    (folder / "cat.png").write_bytes((SAMPLES / "cat.png").read_bytes())
    return folder


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_without_room_the_server_is_to_blame_and_not_the_picture(disk, animations):
    """A 422 would be kept by caches for ten minutes, although nothing is wrong with the picture."""
    filler = disk / "filler"
    filler.write_bytes(bytes(150 << 20))
    with own_in(disk, animations) as server:
        refused = server.ask(LARGE)
        others = [server.ask(target).status for target in (SMALL, "/img/w_50/cat.png")]

        assert (refused.status, refused.headers["Cache-Control"]) == (503, "no-store")
        assert int(refused.headers["Retry-After"]) > 0
        assert others == [200, 200]
        filler.unlink()
        wait_until(lambda: server.ask(LARGE).status == 200, "it is made once there is room")
        assert server.image_health()["workers"]["restarts"]["crash"] == 0
        assert files_in(disk) == []
    assert list(disk.iterdir()) == []


def test_of_a_decode_that_was_killed_nothing_remains(disk, animations):
    with own_in(disk, animations, queue_deadline_seconds=1) as server:
        assert caught_spilling(server, disk).status == 504
        wait_until(lambda: files_in(disk) == [], "what the killed worker had written is gone")
    assert list(disk.iterdir()) == []


def caught_spilling(server: ServerProcess, disk: Path) -> Answer:
    """The answer to a picture whose worker stood still while its temporary file was open."""
    with ThreadPoolExecutor() as asking:
        for _ in range(30):
            answer = asking.submit(server.ask, LARGE)
            while not answer.done():
                if suspended_while_spilling(server, disk):
                    return answer.result()
    raise AssertionError("no worker was seen to spill")


def suspended_while_spilling(server: ServerProcess, disk: Path) -> bool:
    """The file may have no name any more, so it is looked for among what is open."""
    spilling = [one for one in server.workers() if has_open_below(disk, one.pid)]
    for worker in spilling:
        worker.suspend()
    return bool(spilling)


def has_open_below(disk: Path, pid: int) -> bool:
    with suppress(OSError):
        return any(str(link.readlink()).startswith(f"{disk}/") for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def own_in(disk: Path, folder: Path, **settings: object) -> AbstractContextManager[ServerProcess]:
    return serving(
        folder, workers_count=1, cache_memory_bytes=0, disk_limit_bytes=0, variables={"TMPDIR": str(disk)}, **settings
    )


def files_in(disk: Path) -> list[Path]:
    return [path for path in disk.rglob("*") if path.is_file()]
