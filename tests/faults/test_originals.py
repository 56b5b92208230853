"""Originals that change while a worker reads them, and between two requests, with real processes."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.running_server import SAMPLES, Answer, ServerProcess, serving, wait_until

OLD, NEW = SAMPLES / "dogs.jpg", SAMPLES / "autumn.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    shutil.copy(OLD, folder / "old.jpg")
    shutil.copy(NEW, folder / "new.jpg")
    (folder.parent / "secret.jpg").write_bytes((SAMPLES / "sunset.jpg").read_bytes())
    return folder


@pytest.fixture(scope="module")
def own(folder) -> ServerProcess:
    """Root may read every file; without these two capabilities the permission bits bind it like other users."""
    mortal = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    with serving(folder, workers_count=1, under=mortal) as running:
        yield running


def replace(path: Path) -> None:
    shutil.copy(NEW, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def swap_for_symlink(path: Path) -> None:
    path.with_suffix(".link").symlink_to(path.parent.parent / "secret.jpg")
    path.with_suffix(".link").replace(path)


def swap_for_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def swap_for_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def write_over(path: Path) -> None:
    path.write_bytes(NEW.read_bytes())


def write_half_over(path: Path) -> None:
    """Overwrites the end of a photograph with that of another one, without a change of its size."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(NEW.read_bytes()[: path.stat().st_size // 2])


def truncate(path: Path) -> None:
    os.truncate(path, 100_000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def truncate_long_ago(path: Path) -> None:
    os.truncate(path, 100_000)
    os.utime(path, (1_700_000_000,) * 2)


@pytest.mark.parametrize(
    ("deed", "then"),
    [(replace, 200), (Path.unlink, 404), (swap_for_symlink, 404), (swap_for_fifo, 404), (swap_for_folder, 404)],
)
def test_a_file_renamed_while_it_is_read_gives_the_image_it_had(own, folder, deed, then):
    during, after = changed_while_read(own, folder, deed)

    assert (during.status, during.body) == (200, own.ask("/img/w_80/old.jpg").body)
    assert after.status == then
    assert after.status == 404 or after.body == own.ask("/img/w_81/new.jpg").body


@pytest.mark.parametrize(
    ("deed", "then"), [(write_over, {200}), (write_half_over, {200, 503}), (truncate, {503}), (empty, {503})]
)
def test_a_file_overwritten_while_it_is_read_is_neither_served_nor_cached_as_broken(own, folder, deed, then):
    """Neither the image of mixed bytes nor the error that they cause: the state lasts a moment, and no cache may store
    either."""
    during, after = changed_while_read(own, folder, deed)

    assert (during.status, during.headers["Cache-Control"]) == (503, "no-store")
    assert int(during.headers["Retry-After"]) >= 1
    # A file that was just written may be incomplete.
    assert after.status in then
    assert deed is not write_over or after.body == own.ask("/img/w_81/new.jpg").body


def changed_while_read(server: ServerProcess, folder: Path, deed) -> tuple[Answer, Answer]:
    """The response to a request whose original changed between its opening and its reading, and a later response."""
    path = folder / f"{deed.__name__}.jpg"
    shutil.copy(OLD, path)
    for worker in server.workers():
        worker.suspend()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, f"/img/w_80/{path.name}")
        wait_until(lambda: server.image_health()["workers"]["busy"] == 1, "a stopped worker has it")
        deed(path)
        for worker in server.workers():
            worker.resume()
        during = asked.result()
    return during, server.ask(f"/img/w_81/{path.name}")


@pytest.mark.parametrize(
    ("deed", "status"),
    [(truncate_long_ago, 422), (swap_for_symlink, 404), (swap_for_fifo, 404), (Path.unlink, 404)],
)
def test_a_cached_rendition_follows_its_original(own, folder, deed, status):
    path = folder / f"kept-{deed.__name__}.jpg"
    shutil.copy(OLD, path)
    assert own.ask(f"/img/w_82/{path.name}").status == 200
    deed(path)

    wait_until(lambda: own.ask(f"/img/w_82/{path.name}").status != 200, "it is noticed", seconds=3)
    assert own.ask(f"/img/w_82/{path.name}").status == status


@pytest.mark.parametrize("deed", [truncate, empty])
def test_a_cached_rendition_is_served_while_its_original_is_being_written(own, folder, deed):
    path = folder / f"rewritten-{deed.__name__}.jpg"
    shutil.copy(OLD, path)
    before = own.ask(f"/img/w_82/{path.name}")
    deed(path)

    wait_until(lambda: "stale" in own.ask(f"/img/w_82/{path.name}").headers["Cache-Status"], "it is noticed")
    assert own.ask(f"/img/w_82/{path.name}").body == before.body


@pytest.mark.parametrize("part", [0, 2, 1000, 60_000])
def test_a_file_that_is_still_being_written_is_unavailable_until_it_is_whole(own, folder, part):
    whole = OLD.read_bytes()
    path = folder / f"growing-{part}.jpg"
    path.write_bytes(whole[:part])
    half = own.ask(f"/img/w_83/{path.name}")
    with path.open("ab") as file:
        file.write(whole[part:])

    assert (half.status, half.headers["Cache-Control"]) == (503, "no-store")
    assert int(half.headers["Retry-After"]) >= 1
    assert own.ask(f"/img/w_83/{path.name}").status == 200


def test_the_error_of_a_file_that_was_broken_long_ago_may_be_cached(own, folder):
    shutil.copy(OLD, folder / "torn.jpg")
    truncate_long_ago(folder / "torn.jpg")
    answer = own.ask("/img/w_83/torn.jpg")

    assert (answer.status, answer.headers["Cache-Control"]) == (422, "max-age=600")


def test_an_unreadable_file_is_not_found(own, folder):
    shutil.copy(OLD, folder / "forbidden.jpg")
    (folder / "forbidden.jpg").chmod(0)

    assert own.ask("/img/w_82/forbidden.jpg").status == 404


def test_no_descriptor_is_left_open(own, folder):
    assert own.ask("/img/w_83/old.jpg").status == 200

    wait_until(lambda: not opened_below(folder, own.process.pid), "all originals are closed")


def opened_below(folder: Path, pid: int) -> list[Path]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(link.readlink())
    return [path for path in found if path.is_relative_to(folder)]
