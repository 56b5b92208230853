import errno
import os
import stat
from pathlib import Path

import pytest

from imgserver.errors import Conflict, NotFound, Unavailable
from imgserver.runtime import files


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_atomic_write_creates_and_overwrites_a_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_atomically(path, b"old")
    files.write_atomically(path, b"new", sync=True)

    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_file_that_is_overwritten_passes_its_permissions_on(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    path.chmod(0o600)
    files.write_atomically(path, b"new")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_atomic_write_without_overwrite_keeps_the_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_atomically(path, b"old", overwrite=False)

    with pytest.raises(FileExistsError):
        files.write_atomically(path, b"new", overwrite=False)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_failed_atomic_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def refuse(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files, "write_all", refuse)
    with pytest.raises(OSError, match="full"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_file_with_a_name_of_the_greatest_length_can_be_written(tmp_path):
    path = tmp_path / ("a" * 255)
    files.write_atomically(path, b"body")

    assert path.read_bytes() == b"body"


def test_a_new_file_that_cannot_be_written_is_removed(tmp_path):
    def write(file, data):
        file.write(data[:1])
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        files.write_new_file(tmp_path / "ab" / "c", b"body", write=write)
    assert names_in(tmp_path / "ab") == []


def test_a_new_file_never_replaces_another(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        files.write_new_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


class ShortWrites:
    """Takes three bytes at a time, as a nearly full disk."""

    def __init__(self):
        self.written = b""

    def write(self, data):
        self.written += bytes(data[:3])
        return len(data[:3])


def test_write_all_goes_on_after_a_short_write():
    file = ShortWrites()
    files.write_all(file, b"0123456789")

    assert file.written == b"0123456789"


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/hostname"), Path.mkdir])
def test_only_regular_files_are_opened(tmp_path, make):
    make(tmp_path / "a")

    with pytest.raises(OSError):  # ELOOP or FileNotFoundError
        files.open_regular(tmp_path / "a")


def test_read_file_is_bounded(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")

    assert files.read_file(tmp_path / "a", 4) == b"0123"
    assert files.read_file(tmp_path / "a", 100) == b"0123456789"


def test_store_file_creates_folders_and_translates_errors(tmp_path):
    files.store_file(tmp_path / "a" / "b.txt", b"body", replace=False)

    with pytest.raises(Conflict):
        files.store_file(tmp_path / "a" / "b.txt", b"body", replace=False)
    with pytest.raises(NotFound):
        files.store_file(tmp_path / "a" / "b.txt" / "c.txt", b"body", replace=False)
    with pytest.raises(NotFound):
        files.store_file(tmp_path / ("a" * 256), b"body", replace=False)


def test_a_full_disk_is_unavailable_to_store_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files, "write_all", refuse)
    with pytest.raises(Unavailable):
        files.store_file(tmp_path / "a.txt", b"body", replace=True)
