"""Records as files below one folder, one file per key. Synchronous, for the threads of `disk.py`.

A record's file is written under a temporary name and then renamed, so a file with a record's name is complete. The
checksum in the record finds what a power cut tore, so nothing is synced.
"""

from collections import Counter
from pathlib import Path
from typing import Literal

from imgserver.cache.record import HEAD_BYTES, Corrupt, decode, encode, peek
from imgserver.cache.tier import IsKept
from imgserver.plan.rendition import Rendition
from imgserver.runtime.file_store import FileStore, FoundFile, disk_bytes, name_of, path_of
from imgserver.runtime.files import read_file, temporary_path, unlink, write_new_file


class RecordStore:
    """Records by key, the least recently used evicted first. Thread-safe."""

    def __init__(self, root: Path, *, limit_bytes: int, item_bytes: int) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._item_bytes = item_bytes
        # An entry of the index is the record's bytes on disk.
        self._files = FileStore[int](
            root,
            limit_bytes=limit_bytes,
            bytes_of=lambda size: size,
            remove_files=lambda name, _: self._unlink(name),
        )

    @property
    def entries(self) -> int:
        return len(self._files)

    @property
    def size_bytes(self) -> int:
        return self._files.size_bytes

    @property
    def evictions(self) -> int:
        return self._files.evictions

    @property
    def scanned(self) -> bool:
        """Whether the scan has ended, so that records can be stored."""
        return self._files.scanned

    def load(self, key: str) -> Rendition | None:
        """The key's record, or None. Raises Corrupt when the file is not a record of this key; the file is removed.
        Raises OSError when it cannot be read."""
        name = name_of(key)
        try:
            data = self._read(name, self._item_bytes + HEAD_BYTES + 1)
        except FileNotFoundError:
            self._files.forget(name)
            return None
        try:
            rendition = decode(key, data)
        except Corrupt:
            self._discard(name)
            raise
        self._files.touch(name, self._path(name))
        return rendition

    def store(self, key: str, rendition: Rendition) -> bool:
        """False: it is not stored, because it is too large or because the scan has not ended. Raises OSError when it
        cannot be written; then the key has no record."""
        if not self.scanned or len(rendition.body) > self._item_bytes:
            return False
        data = encode(key, rendition)
        name, size = name_of(key), disk_bytes(len(data))
        if not self._files.reserve(size):
            return False
        temporary = temporary_path(self._path(name))
        try:
            write_new_file(temporary, data)
            with self._files.lock:
                temporary.replace(self._path(name))
                self._files.forget(name)
                self._files.add(name, size)
        except BaseException:
            self._files.release(size)
            self._discard(name)
            unlink(temporary)
            raise
        return True

    def remove(self, key: str) -> None:
        self._discard(name_of(key))

    def stop(self) -> None:
        """Ends the walk under way, and every later one."""
        self._files.stop()

    def scan(self) -> None:
        """Builds the index and removes temporary files. Raises OSError when the folder cannot be created."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._files.scan(_entry_of)

    def sweep(self, is_kept: IsKept) -> tuple[int, int]:
        """Removes the records whose (expires, generations) are not kept, and files that are not records. Returns how
        many were removed, and how many could not be read."""
        results = Counter(self._sweep_one(name, is_kept) for name in self._files.paced_names())
        return results["removed"], results["unread"]

    def _sweep_one(self, name: str, is_kept: IsKept) -> Literal["kept", "removed", "unread"]:
        try:
            _, expires, generations = peek(self._read(name, HEAD_BYTES))
            kept = is_kept(expires, generations)
        except Corrupt:
            kept = False
        except FileNotFoundError:
            self._files.forget(name)
            return "kept"
        except OSError:
            return "unread"
        if not kept:
            self._discard(name)
        return "kept" if kept else "removed"

    def _read(self, name: str, limit: int) -> bytes:
        return read_file(self._path(name), limit)

    def _path(self, name: str) -> Path:
        return path_of(self._root, name)

    def _discard(self, name: str) -> None:
        """Removes the file also when the scan has not counted it yet."""
        with self._files.lock:
            self._files.forget(name)
            self._unlink(name)

    def _unlink(self, name: str) -> None:
        unlink(self._path(name))


def _entry_of(_: str, found: list[FoundFile]) -> int | None:
    sizes = [file.bytes for file in found if not file.suffix and file.bytes is not None]
    return disk_bytes(sizes[0]) if sizes else None
