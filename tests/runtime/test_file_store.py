import os

import pytest

from imgserver.runtime.file_store import BLOCK_BYTES, FileStore, disk_bytes, name_of, path_of
from imgserver.runtime.files import unlink

LIMIT_BLOCKS = 4


class Files:
    """A store of files of one block, one per key."""

    def __init__(self, root):
        self.root = root
        self.store = FileStore[int](
            root, limit_bytes=LIMIT_BLOCKS * BLOCK_BYTES, bytes_of=lambda size: size, remove_files=self.remove_files
        )

    def remove_files(self, name, _):
        unlink(path_of(self.root, name))

    def put(self, key):
        name = name_of(key)
        if not self.store.reserve(BLOCK_BYTES):
            return False
        path = path_of(self.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.store.lock:
            path.write_bytes(b"x")
            self.store.forget(name)
            self.store.add(name, BLOCK_BYTES)
        return True

    def touch(self, key):
        self.store.touch(name_of(key), path_of(self.root, name_of(key)))

    def keys(self, among):
        """The keys with a file, which must be the keys in the index."""
        on_disk = [key for key in among if path_of(self.root, name_of(key)).exists()]
        assert on_disk == [key for key in among if self.store.get(name_of(key)) is not None]
        return "".join(on_disk)

    def scan(self):
        self.store.scan(lambda name, found: disk_bytes(found[0].bytes) if found[0].bytes is not None else None)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def test_the_least_recently_used_entry_is_evicted_first(files):
    for key in "abcd":
        files.put(key)
    files.touch("a")
    files.put("e")

    assert files.keys("abcde") == "acde"
    assert (len(files.store), files.store.size_bytes, files.store.evictions) == (4, 4 * BLOCK_BYTES, 1)


def test_an_entry_that_is_written_again_is_counted_once(files):
    files.put("a")
    files.put("a")

    assert (len(files.store), files.store.size_bytes) == (1, BLOCK_BYTES)


def test_a_pinned_entry_is_not_evicted(files):
    for key in "abcd":
        files.put(key)
    with files.store.pin(name_of("a")), files.store.pin(name_of("b")):
        files.put("e")

    assert files.keys("abcde") == "abde"


def test_the_bytes_of_a_removed_entry_count_while_it_is_pinned(files):
    files.put("a")
    with files.store.pin(name_of("a")):
        files.store.remove(name_of("a"))
        assert (len(files.store), files.store.size_bytes) == (0, BLOCK_BYTES)

    assert files.store.size_bytes == 0
    assert [files.put(key) for key in "bcde"] == [True] * 4
    assert files.store.evictions == 0


def test_a_reservation_that_does_not_fit_is_refused_and_not_counted(files):
    for key in "abcd":
        files.put(key)
    with files.store.pin(name_of("a")):
        assert not files.store.reserve(LIMIT_BLOCKS * BLOCK_BYTES)

    assert files.store.size_bytes == BLOCK_BYTES


def test_reserved_bytes_count_until_they_are_released(files):
    files.store.reserve(3 * BLOCK_BYTES)
    files.put("a")
    files.put("b")
    files.store.release(3 * BLOCK_BYTES)

    assert files.keys("ab") == "b"
    assert files.store.size_bytes == BLOCK_BYTES


def test_a_scan_rebuilds_the_index_and_evicts_to_the_limit(files, tmp_path):
    for number, key in enumerate("fedcba"):
        path = path_of(tmp_path, name_of(key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (number, number))
    files.scan()

    assert files.store.scanned
    assert files.keys("abcdef") == "abcd"


def test_a_scan_removes_temporary_files_and_leaves_foreign_files(files, tmp_path):
    files.put("a")
    folder = path_of(tmp_path, name_of("a")).parent
    temporary, foreign = folder / ".1-2.tmp", folder / "notes.txt"
    temporary.write_bytes(b"half")
    foreign.write_bytes(b"mine")
    again = Files(tmp_path)
    again.scan()

    assert again.keys("a") == "a"
    assert not temporary.exists()
    assert foreign.exists()


def test_a_stopped_scan_does_not_count_as_done(files):
    files.put("a")
    again = Files(files.root)
    again.store.stop()
    again.scan()

    assert not again.store.scanned
    assert len(again.store) == 0


def test_files_are_counted_in_whole_blocks():
    assert [disk_bytes(size) for size in (0, 1, BLOCK_BYTES, BLOCK_BYTES + 1)] == [
        0,
        BLOCK_BYTES,
        BLOCK_BYTES,
        2 * BLOCK_BYTES,
    ]
