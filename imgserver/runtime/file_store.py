"""A folder of files by key, bounded in bytes, where the least recently used files are evicted first.

An entry is one file, or several files with the same beginning of their names, at `ab/cd/<rest>`. The two levels of
folders keep each folder small. The files are the only persistent state: the index in memory enforces the limit and is
rebuilt by a scan at every start. The modification time of an entry's file is the time of its last use.

The disk tier (cache/disk_store.py) and the origin cache (sources/origin_cache/store.py) share this class: names, index,
accounting in blocks, eviction, pins and the scan. They differ in what an entry is and in when its files get their
names. A record is one file with a checksum. An original is a body and its metadata, and several servers may write into
one folder. These parts are in the two modules.
"""

import os
import stat
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Generic, TypeVar

from imgserver.runtime.files import TEMPORARY_SUFFIX, unlink

E = TypeVar("E")
T = TypeVar("T")

BLOCK_BYTES = 4096
NAME_LENGTH = 32

# A long walk lets other threads have the interpreter: after so many files, for so long.
PACE_FILES = 64
PACE_SECONDS = 0.001

_HEX = frozenset("0123456789abcdef")


def name_of(key: str) -> str:
    """The name of the key's entry: NAME_LENGTH hexadecimal digits."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:NAME_LENGTH]


def path_of(root: Path, name: str) -> Path:
    return root / name[:2] / name[2:4] / name[4:]


def disk_bytes(size: int) -> int:
    """What a file of `size` bytes takes of the disk: whole blocks, folders not counted."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that a scan found. `suffix` follows the entry's name. `bytes` is None for what is not a regular file."""

    path: str
    suffix: str
    bytes: int | None
    used: float


class Pacer:
    """Makes long walks in threads give way to others, and ends them at `stop`: the interpreter waits for its threads
    before it ends."""

    def __init__(self) -> None:
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    def pace(self, items: Iterable[T]) -> Iterator[T]:
        for number, item in enumerate(items, start=1):
            if self.stopped:
                return
            yield item
            if number % PACE_FILES == 0:
                time.sleep(PACE_SECONDS)


class FileStore(Generic[E]):
    """The index of entries by name, with their bytes on disk. Thread-safe; `pin` is for the event loop, all else for
    threads.

    `bytes_of(entry)` is what an entry takes of the disk. `remove_files(name, entry)` removes its files and never
    raises. Hold `lock` while files get their names, so that an eviction and a new state of one entry never mix.
    """

    def __init__(
        self,
        root: Path,
        *,
        limit_bytes: int,
        bytes_of: Callable[[E], int],
        remove_files: Callable[[str, E], None],
    ) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._bytes_of = bytes_of
        self._remove_files = remove_files
        # The event loop never takes it: a disk that hangs stops threads only.
        self.lock = RLock()
        # By the digest in binary, which takes a third of the memory of the name.
        self._index: OrderedDict[bytes, E] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self._open_after_removal: Counter[str] = Counter()
        self._bytes = 0
        self._pacer = Pacer()
        self.evictions = 0
        self.scanned = False

    def __len__(self) -> int:
        return len(self._index)

    @property
    def size_bytes(self) -> int:
        """Bytes of the entries, of reservations, and of removed files that a reader still has open."""
        closed = sum(size for name, size in list(self._open_after_removal.items()) if not self._pins.get(name))
        return self._bytes - closed

    @contextmanager
    def pin(self, name: str) -> Iterator[None]:
        """Until the end of the context, the entry is not evicted, also if it is added meanwhile. If it is removed, its
        bytes count until then: the disk frees them when the last reader closes the file."""
        self._pins[name] += 1
        try:
            yield
        finally:
            self._pins[name] -= 1
            if not self._pins[name]:
                del self._pins[name]

    def get(self, name: str) -> E | None:
        return self._index.get(bytes.fromhex(name))

    def add(self, name: str, entry: E) -> None:
        """Adds an entry whose bytes are reserved already. Its former entry must have been removed or forgotten."""
        self._index[bytes.fromhex(name)] = entry

    def touch(self, name: str, path: Path) -> None:
        """Notes a use of the entry, in the index and as the modification time of the file `path`."""
        with suppress(OSError):
            os.utime(path)
        with self.lock, suppress(KeyError):
            self._index.move_to_end(bytes.fromhex(name))

    def forget(self, name: str) -> None:
        """Removes an entry whose files are gone or overwritten."""
        with self.lock:
            entry = self._index.pop(bytes.fromhex(name), None)
            if entry is not None:
                self._release_entry(name, entry)

    def remove(self, name: str) -> None:
        """Removes an entry with its files."""
        with self.lock:
            entry = self._index.pop(bytes.fromhex(name), None)
            if entry is not None:
                self._release_entry(name, entry)
                self._remove_files(name, entry)

    def reserve(self, wanted: int) -> bool:
        """Counts bytes before they are written, and evicts what must go for them, so that the limit holds at every
        moment. False: they do not fit, because the rest is reserved or pinned; nothing is counted then."""
        with self.lock:
            if not self.make_space(wanted):
                return False
            self._bytes += wanted
            return True

    def release(self, reserved: int) -> None:
        with self.lock:
            self._bytes -= reserved

    def make_space(self, wanted: int) -> bool:
        """Evicts the least recently used entries until `wanted` more bytes fit. False: they do not."""
        with self.lock:
            self._release_closed()
            while self._bytes + wanted > self._limit_bytes:
                if not self.evict_one():
                    return False
            return True

    def evict_one(self) -> bool:
        """Evicts the least recently used entry that is not pinned. False: there is none."""
        with self.lock:
            name = next((key.hex() for key in self._index if key.hex() not in self._pins), None)
            if name is None:
                return False
            self.remove(name)
            self.evictions += 1
            return True

    def scan(
        self,
        read_entry: Callable[[str, list[FoundFile]], E | None],
        *,
        last_used: Callable[[list[FoundFile]], float] = lambda found: found[0].used,
    ) -> None:
        """Builds the index from the files that an earlier process left, and evicts down to the limit.

        `read_entry(name, found)` is called under the lock. It returns the entry of these files; or None, after it has
        removed what belongs to no entry. Temporary files are removed.
        """
        found: dict[str, list[FoundFile]] = {}
        for name, file in self._pacer.pace(self._walk()):
            found.setdefault(name, []).append(file)
        for name in self._pacer.pace(sorted(found, key=lambda name: last_used(found[name]))):
            with self.lock:
                entry = read_entry(name, found[name])
                if entry is not None:
                    self.add(name, entry)
                    self._bytes += self._bytes_of(entry)
        if not self._pacer.stopped:
            self.scanned = True
            self._evict_to_limit()

    def paced_names(self) -> Iterator[str]:
        """The names of all entries, for a long walk in a thread (see `Pacer`)."""
        with self.lock:
            names = [key.hex() for key in self._index]
        return self._pacer.pace(names)

    def stop(self) -> None:
        """Ends the walk under way, and every later one."""
        self._pacer.stop()

    def _evict_to_limit(self) -> None:
        # The lock is released after each entry, for there may be many, and readers take the same lock.
        while not self._pacer.stopped and self.size_bytes > self._limit_bytes and self.evict_one():
            pass

    def _release_entry(self, name: str, entry: E) -> None:
        if name in self._pins:
            self._open_after_removal[name] += self._bytes_of(entry)
        else:
            self._bytes -= self._bytes_of(entry)

    def _release_closed(self) -> None:
        for name in [name for name in self._open_after_removal if name not in self._pins]:
            self._bytes -= self._open_after_removal.pop(name)

    def _walk(self) -> Iterator[tuple[str, FoundFile]]:
        """Every file of an entry, with the entry's name: `ab/cd/<rest><suffix>`. Skips what cannot be read."""
        for outer in _folders(str(self._root)):
            for inner in _folders(outer):
                with suppress(OSError), os.scandir(inner) as files:
                    for file in files:
                        if file.name.endswith(TEMPORARY_SUFFIX):
                            unlink(Path(file.path))
                            continue
                        name = "".join(file.path.rsplit("/", 3)[1:])
                        if len(name) >= NAME_LENGTH and _HEX.issuperset(name[:NAME_LENGTH]):
                            found = _found(file, name[NAME_LENGTH:])
                            if found is not None:
                                yield name[:NAME_LENGTH], found


def _found(file: "os.DirEntry[str]", suffix: str) -> FoundFile | None:
    try:
        status = file.stat(follow_symlinks=False)
    except OSError:
        return None
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return FoundFile(file.path, suffix, size, status.st_mtime)


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if len(entry.name) == 2 and entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
