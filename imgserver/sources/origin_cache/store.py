"""Originals as files below one folder: the bytes as `ab/cd/<rest>.<digest>`, their facts as `ab/cd/<rest>.facts`.

Synchronous and thread-safe, for the threads of `spool.py`. The files are the truth; the index in memory serves the
byte cap and is rebuilt by a scan at every start. Bytes are written below `coming.spool/` and get their name when they
are whole; their facts, which name the digest, are renamed last. What a power cut tore is found by that digest, which is
computed again when a file is opened for the first time after a start: nothing is synced.

Several servers may use one folder, such as an old one that still ends and a new one: what is coming lies in a folder
that its server holds locked, and an original that another has put out is downloaded again. Each counts what it knows.

The cap holds at every moment, and counts whole blocks of the facts, of downloads still under way, and of what has lost
its name while somebody reads it.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import RLock
from typing import BinaryIO

from imgserver.errors import Unavailable
from imgserver.runtime import files
from imgserver.runtime.files import open_regular
from imgserver.sources.origin_cache import metadata as texts
from imgserver.sources.origin_cache.metadata import OriginMetadata, StoredBody

COMING = "coming.spool"
FACTS = ".facts"
HASHED_BYTES = 1 << 20
MARK_LENGTH = 16

_OURS = re.compile(r"[0-9a-f]{32}\.(?:facts|[0-9a-f]{16})")


@dataclass(slots=True)
class _Entry:
    """One kept original. `mark` is the digest in its file's name; `seen` is that file as it was when the digest was
    right: (inode, size, time)."""

    mark: str
    weight: int
    seen: tuple[int, int, int] | None = None


class OriginStore:
    """Least recently used out first, but nothing that is pinned. `pin` is for the event loop, all else for threads."""

    def __init__(self, root: Path, *, limit_bytes: int) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._coming = root / COMING / secrets.token_hex(8)
        self._hold: int | None = None
        # Held over every change of names, so that an eviction and a new state of one original never mix. The loop
        # never takes it: a disk that has stopped stops threads only.
        self._lock = RLock()
        self._index: OrderedDict[str, _Entry] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self._lingering: Counter[str] = Counter()
        self._numbers = count()
        self._bytes = 0
        self.evictions = 0
        self.corrupt = 0
        self.scanned = False
        self._pace = files.Pace()

    @property
    def entries(self) -> int:
        return len(self._index)

    @property
    def size_bytes(self) -> int:
        """Of what is kept, what is coming, and what has lost its name and is still open."""
        return self._bytes - sum(weight for name, weight in list(self._lingering.items()) if not self._pins.get(name))

    @contextmanager
    def pin(self, key: str) -> Iterator[None]:
        """What is kept of `key`, or will be meanwhile, is not put out for room."""
        name = files.name_of(key)
        self._pins[name] += 1
        try:
            yield
        finally:
            self._pins[name] -= 1
            if not self._pins[name]:
                del self._pins[name]

    def facts(self, key: str) -> OriginMetadata | None:
        """None: nothing is kept of it. OSError: it cannot be read."""
        name = files.name_of(key)
        try:
            facts = self._read(name)
        except FileNotFoundError:
            return None
        if facts is None or facts.key != key:
            self._discard_corrupt(name)
            return None
        return facts

    def open(self, facts: OriginMetadata) -> int | None:
        """A descriptor of the bytes. None: they are not there any more, or not what they were, and then they go."""
        assert facts.body is not None
        name, mark = files.name_of(facts.key), _mark(facts.body)
        try:
            descriptor, status = open_regular(self._body_path(name, mark))
        except FileNotFoundError:
            self._discard(name, mark)
            return None
        if self._is_whole(name, facts.body, descriptor, status):
            self._touch(name)
            return descriptor
        os.close(descriptor)
        self._discard_corrupt(name)
        return None

    def renew(self, facts: OriginMetadata) -> None:
        """New facts of the bytes that are kept already. OSError: they cannot be written."""
        assert facts.body is not None
        name = files.name_of(facts.key)
        written = self._write_facts(texts.encode(facts))
        with self._lock:
            if self._is_kept(name, _mark(facts.body)):
                written.replace(self._facts_path(name))
            else:  # put out or replaced meanwhile: facts without their bytes are of no use
                _unlink(written)

    def remove(self, key: str) -> None:
        self._discard(files.name_of(key), None)

    def sweep(self, matches: Callable[[OriginMetadata], bool]) -> None:
        """Removes whatever is kept and matches."""
        with self._lock:
            names = list(self._index)
        for name in self._pace.of(names):
            with suppress(OSError):
                facts = self._read(name)
                if facts is None or matches(facts):
                    self._discard(name, None)

    def path(self, facts: OriginMetadata) -> Path:
        assert facts.body is not None
        return self._body_path(files.name_of(facts.key), _mark(facts.body))

    def coming(self) -> Path:
        """A place for what has no name yet; on the same file system, so that a name can be given."""
        return self._coming / str(next(self._numbers))

    def clear(self) -> None:
        """Makes the folder, and removes what was still coming to servers that have ended. OSError: it cannot be had."""
        self._coming.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hold = _held(self._coming)
        for left in (self._root / COMING).iterdir():
            if left != self._coming:
                _remove_unless_held(left)

    def scan(self) -> None:
        """Counts what the last server left; what is no whole pair of bytes and facts is removed."""
        found: dict[str, list[os.DirEntry[str]]] = {}
        for name, entry in self._pace.of(files.walk(self._root)):
            if _OURS.fullmatch(name):
                found.setdefault(name[: files.NAME_LENGTH], []).append(entry)
        # By the time of the last use, which is that of the facts.
        for name in self._pace.of(sorted(found, key=lambda name: _used(found[name]))):
            with self._lock:
                self._take_in(name, found[name])
        if not self._pace.stopped:
            self.scanned = True
            self.make_room(0)

    def stop(self) -> None:
        """Ends the walk under way, and every later one."""
        self._pace.stopped = True
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def reserve(self, wanted: int) -> None:
        """Counts bytes before they are written. Unavailable: all the room is taken by what is coming or being read."""
        with self._lock:
            if not self.make_room(wanted):
                raise Unavailable("The spool is full of what is being read", reason="spool", retry_after=1)
            self._bytes += wanted

    def release(self, weight: int) -> None:
        with self._lock:
            self._bytes -= weight

    def make_room(self, wanted: int) -> bool:
        """Puts out the least recently used until `wanted` more bytes fit. False: they do not."""
        with self._lock:
            self._count_out_lingering()
            while self._bytes + wanted > self._limit_bytes:
                if not self.evict():
                    return False
            return True

    def evict(self) -> bool:
        """Puts one out. False: there is none that nobody needs."""
        with self._lock:
            name = next((name for name in self._index if not self._pins.get(name)), None)
            if name is None:
                return False
            self._put_out(name)
            self.evictions += 1
            return True

    def write(self, file: BinaryIO, data: bytes) -> None:
        """On a disk that is fuller than the cap knows, originals go until the bytes fit. OSError: there are no more."""
        view = memoryview(data)
        while view:
            try:
                view = view[file.write(view) :]
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self.evict():
                    raise

    def take(self, temporary: Path, facts: OriginMetadata, status: os.stat_result) -> None:
        """Gives a finished download its name. Its bytes are counted already; OSError: it could not be kept."""
        assert facts.body is not None
        name, mark, text = files.name_of(facts.key), _mark(facts.body), texts.encode(facts)
        weight = files.weight(len(text))
        self.reserve(weight)
        try:
            written = self._write_facts(text)
            with self._lock:
                self._replace(name, mark, temporary, written)
                self._index[name] = _Entry(mark, files.weight(facts.body.length) + weight, _seen(status))
        except BaseException:
            self.release(weight)
            raise

    def _replace(self, name: str, mark: str, temporary: Path, written: Path) -> None:
        if name in self._index:
            self._put_out(name)
        path = self._body_path(name, mark)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            temporary.replace(path)
            written.replace(self._facts_path(name))
        except BaseException:
            _unlink(path)
            _unlink(written)
            raise

    def _read(self, name: str) -> OriginMetadata | None:
        return texts.decode(files.read(self._facts_path(name), texts.LIMIT_BYTES))

    def _write_facts(self, text: bytes) -> Path:
        path = self.coming()
        try:
            with files.create(path) as file:
                self.write(file, text)
        except BaseException:
            _unlink(path)
            raise
        return path

    def _is_kept(self, name: str, mark: str) -> bool:
        entry = self._index.get(name)
        # What the scan has not come to is there, but not counted yet.
        return entry.mark == mark if entry is not None else not self.scanned and self._body_path(name, mark).exists()

    def _is_whole(self, name: str, body: StoredBody, descriptor: int, status: os.stat_result) -> bool:
        entry = self._index.get(name)
        if entry is not None and entry.mark == _mark(body) and entry.seen == _seen(status):
            return True
        if status.st_size != body.length or _digest(descriptor) != body.digest:
            return False
        if entry is not None and entry.mark == _mark(body):
            entry.seen = _seen(status)
        return True

    def _touch(self, name: str) -> None:
        with suppress(OSError):
            os.utime(self._facts_path(name))
        with self._lock, suppress(KeyError):
            self._index.move_to_end(name)

    def _discard_corrupt(self, name: str) -> None:
        self.corrupt += 1
        self._discard(name, None)

    def _discard(self, name: str, mark: str | None) -> None:
        """Of that mark only, where one is given: another state may have come meanwhile."""
        with self._lock:
            entry = self._index.get(name)
            if entry is not None and mark in (None, entry.mark):
                self._put_out(name)
            elif entry is None:
                _unlink(self._facts_path(name))

    def _put_out(self, name: str) -> None:
        entry = self._index.pop(name)
        # The bytes of a file that is open stay on the disk until it is closed.
        if self._pins.get(name):
            self._lingering[name] += entry.weight
        else:
            self._bytes -= entry.weight
        _unlink(self._facts_path(name))
        _unlink(self._body_path(name, entry.mark))

    def _count_out_lingering(self) -> None:
        for name in [name for name in self._lingering if not self._pins.get(name)]:
            self._bytes -= self._lingering.pop(name)

    def _take_in(self, name: str, found: "list[os.DirEntry[str]]") -> None:
        sizes = dict(_sizes(found))
        marks = {ending[1:] for ending in sizes} - {FACTS[1:]}
        entry = self._index.get(name)
        if entry is not None:  # came while the scan was walking, and what was before it may still lie there
            for mark in marks - {entry.mark}:
                _unlink(self._body_path(name, mark))
        elif len(found) == len(sizes) == 2 and len(marks) == 1:
            weight = sum(map(files.weight, sizes.values()))
            self._index[name] = _Entry(marks.pop(), weight)
            self._bytes += weight
        else:
            for file in found:
                _unlink(Path(file.path))

    def _facts_path(self, name: str) -> Path:
        return Path(f"{files.place(self._root, name)}{FACTS}")

    def _body_path(self, name: str, mark: str) -> Path:
        return Path(f"{files.place(self._root, name)}.{mark}")


def _held(folder: Path) -> int | None:
    """A descriptor that holds it locked. None: another server does. Where nothing can be locked it holds nothing."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        return descriptor
    return descriptor


def _remove_unless_held(folder: Path) -> None:
    with suppress(OSError):
        descriptor = _held(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _mark(body: StoredBody) -> str:
    return body.digest[:MARK_LENGTH]


def _seen(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest(descriptor: int) -> str:
    hasher, at = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, HASHED_BYTES, at):
        hasher.update(chunk)
        at += len(chunk)
    return hasher.hexdigest()


def _sizes(files: "list[os.DirEntry[str]]") -> Iterator[tuple[str, int]]:
    """Regular files by the ending of their names."""
    for file in files:
        with suppress(OSError):
            status = file.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                yield Path(file.name).suffix, status.st_size


def _used(files: "list[os.DirEntry[str]]") -> float:
    """When an original was used last: the time of its facts, which every use touches."""
    for file in files:
        with suppress(OSError):
            if file.name.endswith(FACTS):
                return file.stat(follow_symlinks=False).st_mtime
    return 0.0


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
