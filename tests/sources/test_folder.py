import asyncio
import errno
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from imgserver.errors import (
    BrokenImage,
    Conflict,
    ImageOverLimit,
    ImgserverError,
    NotFound,
    ServerFault,
    SourceDenied,
    Unavailable,
    UnsupportedImage,
)
from imgserver.runtime import files
from imgserver.sources.folder import THREADS, FolderSource
from imgserver.testing import SourceContract


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "public"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "present.jpg").write_bytes(SourceContract.IMAGE)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "public123").mkdir()
    (tmp_path / "public123" / "sibling.jpg").write_bytes(b"secret")
    return root


@pytest.fixture
async def source(root: Path):
    folder = FolderSource(root)
    yield folder
    await folder.close()


class TestContract(SourceContract):
    @pytest.fixture
    async def source(self, root: Path):
        folder = FolderSource(root)
        yield folder
        await folder.close()


async def test_no_file_counts_as_absent_while_the_folder_is_away(source: FolderSource, root: Path) -> None:
    root.rename(root.with_name("elsewhere"))

    with pytest.raises(Unavailable):
        await source.fingerprint("folder/present.jpg")
    with pytest.raises(Unavailable):
        await opened(source, "folder/present.jpg")
    root.with_name("elsewhere").rename(root)
    assert await source.fingerprint("folder/present.jpg")


async def test_an_unmounted_folder_is_away(source: FolderSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount point still exists, as an empty folder on another device."""
    monkeypatch.setattr(source, "_device", source._device + 1)

    with pytest.raises(Unavailable):
        await source.fingerprint("folder/absent.jpg")


async def opened(source: FolderSource, path: str) -> None:
    async with source.open(path):
        pass


async def refused(source: FolderSource, path: str) -> str:
    with pytest.raises(NotFound) as seen:
        async with source.open(path):
            pass
    return seen.value.detail


@pytest.mark.parametrize(
    "path",
    [
        "../secret.jpg",
        "folder/../../secret.jpg",
        "../public123/sibling.jpg",
        "/etc/passwd",
        "folder",
        ".",
        "a\0b",
        "x" * 5000,
    ],
)
async def test_paths_outside_and_special_files_have_the_same_error(source, path):
    assert await refused(source, path) == await refused(source, "absent.jpg")


@pytest.mark.parametrize("path", [".hidden.jpg", ".git/a.jpg", "folder/.a.jpg", "folder/.cache/deep/a.jpg", "..a.jpg"])
async def test_hidden_files_have_the_error_of_absent_ones(source, root, path):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(SourceContract.IMAGE)

    assert await refused(source, path) == await refused(source, "absent.jpg")
    with pytest.raises(NotFound):
        await source.fingerprint(path)
    assert path not in await source.listing(100)


async def test_dots_elsewhere_in_a_name_do_not_hide_a_file(source, root):
    (root / "a.b").mkdir()
    (root / "a.b" / "c.d.jpg").write_bytes(SourceContract.IMAGE)

    assert await source.fingerprint("a.b/c.d.jpg")


async def test_a_visible_symlink_may_lead_to_a_hidden_folder(source, root):
    """Volumes of Kubernetes are made so."""
    (root / "..2026").mkdir()
    (root / "..2026" / "a.jpg").write_bytes(SourceContract.IMAGE)
    (root / "..data").symlink_to("..2026")
    (root / "a.jpg").symlink_to("..data/a.jpg")

    assert await source.fingerprint("a.jpg")


async def test_all_symlinks_to_a_file_have_its_identity(source, root):
    (root / "link.jpg").symlink_to("folder/present.jpg")
    (root / "second.jpg").symlink_to(root / "link.jpg")
    (root / "album").symlink_to("folder")
    names = ("folder/present.jpg", "link.jpg", "second.jpg", "album/present.jpg")

    assert {await source.identity(name) for name in names} == {"folder/present.jpg"}
    assert await source.identity("album") == "folder"


async def test_a_symlink_to_a_hidden_file_keeps_its_own_identity(source, root):
    (root / ".data").mkdir()
    (root / ".data" / "a.jpg").write_bytes(SourceContract.IMAGE)
    (root / "a.jpg").symlink_to(".data/a.jpg")

    assert await source.identity("a.jpg") == "a.jpg"


@pytest.mark.parametrize("path", ["absent.jpg", "out.jpg", ".hidden.jpg"])
async def test_what_is_not_served_has_no_identity(source, root, path):
    (root / "out.jpg").symlink_to(root.parent / "secret.jpg")

    with pytest.raises(NotFound):
        await source.identity(path)


async def test_a_symlink_out_of_the_folder_is_refused_and_one_inside_is_followed(source, root):
    (root / "out.jpg").symlink_to(root.parent / "secret.jpg")
    (root / "sibling").symlink_to(root.parent / "public123")
    (root / "in.jpg").symlink_to(root / "folder" / "present.jpg")

    await refused(source, "out.jpg")
    await refused(source, "sibling/sibling.jpg")
    async with source.open("in.jpg") as original:
        assert original.head == SourceContract.IMAGE


async def test_a_cycle_of_symlinks_is_not_found(source, root):
    (root / "circle.jpg").symlink_to("circle.jpg")

    assert await refused(source, "circle.jpg") == await refused(source, "absent.jpg")


async def test_a_fifo_a_socket_and_a_device_are_refused_without_waiting(source, root):
    os.mkfifo(root / "pipe.jpg")
    (root / "null.jpg").symlink_to("/dev/null")
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(root / "socket.jpg"))
        for name in ("pipe.jpg", "null.jpg", "socket.jpg"):
            assert await refused(source, name) == await refused(source, "absent.jpg")
    finally:
        listener.close()


async def test_an_open_original_stays_the_same_when_its_name_is_swapped(source, root):
    path = root / "folder" / "present.jpg"
    async with source.open("folder/present.jpg") as original:
        path.unlink()
        path.symlink_to(root.parent / "secret.jpg")

        assert Path(original.path).read_bytes() == SourceContract.IMAGE


async def test_a_replaced_file_has_another_fingerprint(source, root):
    before = await source.fingerprint("folder/present.jpg")
    replacement = root / "folder" / "new"
    replacement.write_bytes(SourceContract.IMAGE)
    replacement.rename(root / "folder" / "present.jpg")

    assert await source.fingerprint("folder/present.jpg") != before


async def test_no_descriptor_is_left_open(source):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        async with source.open("folder/present.jpg"):
            pass
        await refused(source, "folder")

    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_root_that_is_not_a_folder_is_refused(tmp_path):
    with pytest.raises(ServerFault, match="is not a folder"):
        FolderSource(tmp_path / "missing")


@pytest.mark.parametrize("fault", [None, BrokenImage()])
async def test_a_file_overwritten_while_open_is_unavailable_whatever_the_outcome(source, root, fault):
    with pytest.raises(Unavailable):
        async with source.open("folder/present.jpg"):
            (root / "folder" / "present.jpg").write_bytes(b"other bytes")
            if fault is not None:
                raise fault


async def undecodable(source: FolderSource, root: Path, *, age: float, error: ImgserverError | None = None):
    """The error that is left when a file of this age in seconds did not decode."""
    path = root / "folder" / "present.jpg"
    os.utime(path, (time.time() - age,) * 2)
    with pytest.raises(ImgserverError) as caught:
        async with source.open("folder/present.jpg"):
            raise error or BrokenImage()
    return caught.value


@pytest.mark.parametrize("age", [0, -30])
async def test_a_file_that_was_just_written_and_does_not_decode_is_unavailable(source, root, age):
    assert isinstance(await undecodable(source, root, age=age), Unavailable)


@pytest.mark.parametrize("head", [b"", b"\xff", bytes(5000)], ids=["empty", "one byte", "reserved space"])
async def test_a_file_without_the_beginning_of_an_image_may_still_be_being_written(source, root, head):
    (root / "folder" / "present.jpg").write_bytes(head)

    assert isinstance(await undecodable(source, root, age=0, error=UnsupportedImage()), Unavailable)


@pytest.mark.parametrize("age", [1, 10])
async def test_no_cache_stores_the_error_of_a_young_file(source, root, age):
    """A file that was there when the server started is not being written."""
    left = await undecodable(source, root, age=age)

    assert (type(left), left.max_age_seconds) == (BrokenImage, 0)


@pytest.mark.parametrize("age", [61, 86_400, -86_400])
async def test_a_file_that_is_not_young_and_does_not_decode_is_broken(source, root, age):
    left = await undecodable(source, root, age=age)

    assert (type(left), left.max_age_seconds) == (BrokenImage, 600)


@pytest.mark.parametrize("error", [UnsupportedImage(), UnsupportedImage(format="svg"), ImageOverLimit()])
async def test_other_errors_do_not_depend_on_the_age_of_the_file(source, root, error):
    left = await undecodable(source, root, age=0, error=error)

    assert (type(left), left.max_age_seconds) == (type(error), error.cache_seconds)


# Errors of the file system

ABSENCE = [errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EISDIR]
FAILURES = [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EPERM, errno.ENODEV]
CALLS = ["os.lstat", "os.open", "os.pread"]


def failing(monkeypatch: pytest.MonkeyPatch, call: str, number: int, name: str = "present.jpg") -> None:
    """The system call fails for paths that end in `name`, and for descriptors."""
    real = getattr(os, call.removeprefix("os."))

    def fail(path, *args, **options):
        if isinstance(path, int) or os.fspath(path).endswith(name):
            raise OSError(number, os.strerror(number))
        return real(path, *args, **options)

    monkeypatch.setattr(call, fail)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", FAILURES, ids=errno.errorcode.get)
async def test_a_passing_error_of_the_file_system_does_not_mean_not_found(source, monkeypatch, call, number):
    failing(monkeypatch, call, number)

    with pytest.raises(Unavailable):
        await opened(source, "folder/present.jpg")


@pytest.mark.parametrize("number", ABSENCE, ids=errno.errorcode.get)
async def test_absence_has_a_fixed_set_of_errors(source, monkeypatch, number):
    failing(monkeypatch, "os.open", number)

    assert await refused(source, "folder/present.jpg") == await refused(source, "absent.jpg")


@pytest.mark.parametrize("number", FAILURES, ids=errno.errorcode.get)
async def test_a_fingerprint_that_cannot_be_read_now_is_unavailable(source, monkeypatch, number):
    failing(monkeypatch, "os.stat", number)

    with pytest.raises(Unavailable):
        await source.fingerprint("folder/present.jpg")


async def test_a_failing_file_system_is_logged_once(source, monkeypatch, caplog):
    failing(monkeypatch, "os.open", errno.EIO)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await opened(source, "folder/present.jpg")

    assert [record.message for record in caplog.records] == ["folder.read_failed"]


async def test_a_listing_that_fails_does_not_look_like_an_empty_folder(source, monkeypatch):
    real = os.scandir

    def fail(path):
        if os.fspath(path).endswith("folder"):
            raise OSError(errno.EIO, "I/O error")
        return real(path)

    monkeypatch.setattr(os, "scandir", fail)

    with pytest.raises(Unavailable):
        await source.listing(10)


async def test_a_listing_omits_a_folder_that_may_not_be_read(source, root, monkeypatch):
    (root / "visible.jpg").write_bytes(b"")
    real = os.scandir

    def fail(path):
        if os.fspath(path).endswith("folder"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", fail)

    assert await source.listing(10) == ["visible.jpg"]


async def test_a_folder_has_no_fingerprint(source):
    with pytest.raises(NotFound):
        await source.fingerprint("folder")


async def test_an_image_is_not_broken_if_its_bytes_could_not_be_read(source, monkeypatch):
    with pytest.raises(Unavailable):
        async with source.open("folder/present.jpg"):
            failing(monkeypatch, "os.pread", errno.EIO)
            raise BrokenImage()


async def test_a_file_system_that_hangs_after_a_read_times_out(source, monkeypatch):
    monkeypatch.setattr("imgserver.sources.folder.CHANGE_CHECK_SECONDS", 0.05)
    hangs = threading.Event()
    with pytest.raises(Unavailable):
        async with source.open("folder/present.jpg"):
            for _ in range(THREADS):
                source._threads.submit(hangs.wait)
    hangs.set()


# Writing


def everything_in(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
async def writable(root: Path):
    folder = FolderSource(root, writable=True)
    yield folder
    await folder.close()


async def test_a_folder_is_read_only_by_default(source, root):
    before = everything_in(root.parent)
    for path in ("new.jpg", "deep/er/new.jpg", "folder/present.jpg"):
        for replace in (False, True):
            with pytest.raises(SourceDenied):
                await source.store(path, b"new", replace=replace)

    assert everything_in(root.parent) == before


async def test_a_stored_file_can_be_opened(writable, root):
    await writable.store("deep/er/new.jpg", b"new")

    async with writable.open("deep/er/new.jpg") as original:
        assert original.head == b"new"
    assert [path.name for path in (root / "deep" / "er").iterdir()] == ["new.jpg"]
    assert (root / "deep/er/new.jpg").stat().st_mode & 0o777 == 0o644


async def test_an_existing_file_is_replaced_only_with_replace(writable, root):
    before = await writable.fingerprint("folder/present.jpg")
    with pytest.raises(Conflict):
        await writable.store("folder/present.jpg", b"new")
    assert (root / "folder/present.jpg").read_bytes() == SourceContract.IMAGE
    await writable.store("folder/present.jpg", b"new", replace=True)

    assert (root / "folder/present.jpg").read_bytes() == b"new"
    assert await writable.fingerprint("folder/present.jpg") != before
    assert [path.name for path in (root / "folder").iterdir()] == ["present.jpg"]


async def test_one_of_many_concurrent_writes_of_a_name_succeeds(writable, root):
    stored = await asyncio.gather(
        *(writable.store("new.jpg", b"%d" % number) for number in range(20)), return_exceptions=True
    )

    (number,) = (number for number, result in enumerate(stored) if result is None)
    assert (root / "new.jpg").read_bytes() == b"%d" % number
    assert {type(result) for result in stored} == {type(None), Conflict}


@pytest.mark.parametrize(
    "path",
    [
        "../new.jpg",
        "folder/../../new.jpg",
        "/etc/new.jpg",
        "out/new.jpg",
        "folder//new.jpg",
        "folder/present.jpg/new.jpg",
        ".hidden",
        ".git/config",
        "",
        ".",
        "x" * 300,
        "a\0b",
    ],
)
async def test_nothing_is_stored_outside_or_under_an_impossible_name(writable, root, path):
    (root / "out").symlink_to(root.parent / "public123")
    before = everything_in(root.parent)
    for replace in (False, True):
        with pytest.raises(NotFound):
            await writable.store(path, b"new", replace=replace)

    assert everything_in(root.parent) == before


async def test_a_symlink_is_replaced_and_never_written_through(writable, root):
    (root / "link.jpg").symlink_to(root.parent / "secret.jpg")
    with pytest.raises(Conflict):
        await writable.store("link.jpg", b"new")
    await writable.store("link.jpg", b"new", replace=True)

    assert (root.parent / "secret.jpg").read_bytes() == b"secret"
    assert (root / "link.jpg").read_bytes() == b"new"


async def test_a_full_disk_is_unavailable_and_leaves_no_file(writable, root, monkeypatch):
    def refuse(file, data):
        file.write(data[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_all", refuse)
    before = everything_in(root)
    with pytest.raises(Unavailable):
        await writable.store("new.jpg", b"new")

    assert everything_in(root) == before


async def test_a_time_that_http_cannot_express_is_no_time_of_modification(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with source.open("folder/present.jpg") as original:
        assert original.modified is not None
    # Not every file system can hold such a time.
    monkeypatch.setattr("imgserver.sources.folder.HTTP_DATES", range(1000))
    async with source.open("folder/present.jpg") as original:
        assert original.modified is None
