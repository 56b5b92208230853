"""Records as files below one folder: `ab/cd/<rest of a digest of the key>`. Synchronous, for the threads of `disk.py`.

The files are the truth; the index in memory serves the byte cap and is rebuilt by a scan at every start, so that it
need not survive anything. A file is complete when it has its name (written under another, then renamed); its checksum
finds what a power cut tore, so nothing is synced.
"""

import os
import stat
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Literal

from imgserver.cache.record import HEAD_BYTES, Corrupt, decode, encode, peek
from imgserver.plan.rendition import GroupGenerations, Rendition
from imgserver.runtime import files

TEMPORARY = ".tmp"

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    bytes: int
    used: float


class Shelf:
    """Least recently used out first; thread-safe. A file's modification time is when it was used last."""

    def __init__(self, root: Path, *, limit_bytes: int, item_bytes: int) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._item_bytes = item_bytes
        self._lock = Lock()
        self._index: OrderedDict[bytes, int] = OrderedDict()
        self._numbers = count()
        self.bytes = 0
        self.evictions = 0
        self.scanned = False
        self._pace = files.Pace()

    @property
    def entries(self) -> int:
        return len(self._index)

    def load(self, key: str) -> Rendition | None:
        """Corrupt: the file was no record of this key, and is gone now. OSError: it cannot be read."""
        name = files.name_of(key)
        try:
            data = self._read(name, self._item_bytes + HEAD_BYTES + 1)
        except FileNotFoundError:
            self._forget(name)
            return None
        try:
            rendition = decode(key, data)
        except Corrupt:
            self._discard(name)
            raise
        self._touch(name)
        return rendition

    def store(self, key: str, rendition: Rendition) -> bool:
        """False: not kept, because it is too large or because the scan has not ended. OSError: it cannot be written."""
        if not self.scanned or len(rendition.body) > self._item_bytes:
            return False
        data = encode(key, rendition)
        name, weight = files.name_of(key), files.weight(len(data))
        if weight > self._limit_bytes:
            return False
        # Counted before it is there, so that the cap holds at every moment; and again with the file: an eviction or a
        # removal may have come between.
        self._admit(name, weight)
        temporary = self._temporary(name)
        try:
            with files.create(temporary) as file:
                files.write_all(file, data)
            with self._lock:
                temporary.replace(self._path(name))
                self._add(name, weight)
                self._evict()
        except BaseException:
            self._discard(name)
            with suppress(OSError):
                temporary.unlink()
            raise
        return True

    def remove(self, key: str) -> None:
        self._discard(files.name_of(key))

    def stop(self) -> None:
        """Ends the walk under way, and every later one: the interpreter waits for its thread before it ends."""
        self._pace.stopped = True

    def scan(self) -> None:
        """Builds the index and removes what writers left half-done. OSError: the folder cannot be had."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = sorted(self._walk(), key=lambda file: file.used)
        with self._lock:
            for file in found:
                self._add(file.name, files.weight(file.bytes))
            self.scanned = True
        # One by one, for there may be many, and look-ups take the same lock.
        while self._is_over() and not self._pace.stopped:
            with self._lock:
                if self._is_over():
                    self._evict_one()

    def sweep(self, keeps: Callable[[float | None, GroupGenerations], bool]) -> tuple[int, int]:
        """Removes the records whose (expires, generations) are not kept, and odd files. How many went, and how many
        could not
        be read."""
        with self._lock:
            names = [name.hex() for name in self._index]
        judged = Counter(self._sweep_one(name, keeps) for name in self._pace.of(names))
        return judged["gone"], judged["unread"]

    def _sweep_one(
        self, name: str, keeps: Callable[[float | None, GroupGenerations], bool]
    ) -> Literal["kept", "gone", "unread"]:
        try:
            _, expires, generations = peek(self._read(name, HEAD_BYTES))
            kept = keeps(expires, generations)
        except Corrupt:
            kept = False
        except FileNotFoundError:
            self._forget(name)
            return "kept"
        except OSError:
            return "unread"
        if not kept:
            self._discard(name)
        return "kept" if kept else "gone"

    def _walk(self) -> Iterator[_File]:
        for name, entry in self._pace.of(files.walk(self._root)):
            if name.endswith(TEMPORARY):
                with suppress(OSError):
                    Path(entry.path).unlink()
                continue
            with suppress(OSError):
                facts = entry.stat(follow_symlinks=False)
                if len(name) == files.NAME_LENGTH and _HEX.issuperset(name) and stat.S_ISREG(facts.st_mode):
                    yield _File(name, facts.st_size, facts.st_mtime)

    def _read(self, name: str, limit: int) -> bytes:
        return files.read(self._path(name), limit)

    def _temporary(self, name: str) -> Path:
        path = self._path(name)
        return path.with_name(f"{path.name}.{os.getpid()}-{next(self._numbers)}{TEMPORARY}")

    def _path(self, name: str) -> Path:
        return files.place(self._root, name)

    def _admit(self, name: str, weight: int) -> None:
        with self._lock:
            self._add(name, weight)
            self._evict()

    def _add(self, name: str, weight: int) -> None:
        digest = bytes.fromhex(name)
        self.bytes += weight - self._index.pop(digest, 0)
        self._index[digest] = weight

    def _evict(self) -> None:
        while self._is_over():
            self._evict_one()

    def _is_over(self) -> bool:
        return self.bytes > self._limit_bytes and bool(self._index)

    def _evict_one(self) -> None:
        """Under the lock, as is every other change of a file and its count: else one would be without the other."""
        digest, weight = self._index.popitem(last=False)
        self.bytes -= weight
        self.evictions += 1
        self._unlink(digest.hex())

    def _touch(self, name: str) -> None:
        with suppress(OSError):
            os.utime(self._path(name))
        with self._lock, suppress(KeyError):
            self._index.move_to_end(bytes.fromhex(name))

    def _forget(self, name: str) -> None:
        with self._lock:
            self._uncount(name)

    def _discard(self, name: str) -> None:
        with self._lock:
            self._uncount(name)
            self._unlink(name)

    def _uncount(self, name: str) -> None:
        self.bytes -= self._index.pop(bytes.fromhex(name), 0)

    def _unlink(self, name: str) -> None:
        with suppress(OSError):
            self._path(name).unlink()
