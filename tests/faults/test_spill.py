"""libvips decodes an animation over 100 MB into a temporary file: where it is, what remains of it, and what happens
without space for it. The disk is real and small."""

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
    """large.gif has 147 MB of pixels, small.gif 6 MB."""
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


def test_without_disk_space_the_response_is_503_and_not_422(disk, animations):
    """Caches would store a 422 for ten minutes, although the image is valid."""
    filler = disk / "filler"
    filler.write_bytes(bytes(150 << 20))
    with serving_with_temp_disk(disk, animations) as server:
        refused = server.ask(LARGE)
        others = [server.ask(target).status for target in (SMALL, "/img/w_50/cat.png")]

        assert (refused.status, refused.headers["Cache-Control"]) == (503, "no-store")
        assert int(refused.headers["Retry-After"]) > 0
        assert others == [200, 200]
        filler.unlink()
        wait_until(lambda: server.ask(LARGE).status == 200, "it is rendered once there is space")
        assert server.image_health()["workers"]["restarts"]["crash"] == 0
        assert files_in(disk) == []
    assert list(disk.iterdir()) == []


def test_nothing_remains_of_a_killed_decode(disk, animations):
    with serving_with_temp_disk(disk, animations, queue_deadline_seconds=1) as server:
        assert request_and_suspend(server, disk).status == 504
        wait_until(lambda: files_in(disk) == [], "the file of the killed worker is deleted")
    assert list(disk.iterdir()) == []


def request_and_suspend(server: ServerProcess, disk: Path) -> Answer:
    """The response for an image whose worker was suspended while its temporary file was open."""
    with ThreadPoolExecutor() as asking:
        for _ in range(30):
            answer = asking.submit(server.ask, LARGE)
            while not answer.done():
                if suspend_with_open_file(server, disk):
                    return answer.result()
    raise AssertionError("no worker was seen with a temporary file")


def suspend_with_open_file(server: ServerProcess, disk: Path) -> bool:
    """Suspends the workers that have a file on the disk open; the file itself may have no name any more."""
    spilling = [one for one in server.workers() if has_open_file(disk, one.pid)]
    for worker in spilling:
        worker.suspend()
    return bool(spilling)


def has_open_file(disk: Path, pid: int) -> bool:
    with suppress(OSError):
        return any(str(link.readlink()).startswith(f"{disk}/") for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def serving_with_temp_disk(disk: Path, folder: Path, **settings: object) -> AbstractContextManager[ServerProcess]:
    return serving(
        folder, workers_count=1, cache_memory_bytes=0, disk_limit_bytes=0, variables={"TMPDIR": str(disk)}, **settings
    )


def files_in(disk: Path) -> list[Path]:
    return [path for path in disk.rglob("*") if path.is_file()]
