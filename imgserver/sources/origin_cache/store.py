"""Originals on disk: the body as `ab/cd/<rest>.<digest>`, its metadata as `ab/cd/<rest>.metadata`.

Synchronous and thread-safe, for the threads of `local_copies.py`. A body is written below `partial-downloads/` and gets
its name when it is complete. The metadata names the digest of the body and is renamed last. Nothing is synced: the
digest detects what a power cut tore. It is computed again when a file is opened for the first time after a start.

Several servers may use one folder, such as an old one that is ending and a new one. An original that another server has
evicted is downloaded again. Each server counts the files that it knows.

The limit holds at every moment. It counts whole blocks of bodies, of metadata, of downloads in progress, and of removed
files that a reader still has open.
"""

import errno
import hashlib
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imgserver.errors import Unavailable
from imgserver.runtime.file_store import FileStore, FoundFile, disk_bytes, name_of, path_of
from imgserver.runtime.files import open_regular, read_file, unlink, write_new_file
from imgserver.runtime.resources import MIB
from imgserver.sources.origin_cache import metadata as serialization
from imgserver.sources.origin_cache.metadata import OriginMetadata, StoredBody
from imgserver.sources.origin_cache.partial_folder import PartialFolder

METADATA = ".metadata"
HASHED_BYTES = MIB
SHORT_DIGEST_LENGTH = 16

_SUFFIX = re.compile(r"\.(?:metadata|[0-9a-f]{16})")


@dataclass(slots=True)
class _Entry:
    """One stored original. `short_digest` is in the name of the body's file; `seen` is that file's (inode, size, time)
    when the digest was last found to be right; `bytes` are those of both files on disk."""

    short_digest: str
    bytes: int
    seen: tuple[int, int, int] | None = None


class OriginStore:
    """The least recently used original is evicted first, but never a pinned one. `pin` is for the event loop, all else
    for threads."""

    def __init__(self, root: Path, *, limit_bytes: int) -> None:
        self._root = root
        self._partial = PartialFolder(root)
        self._files = FileStore[_Entry](
            root, limit_bytes=limit_bytes, bytes_of=lambda entry: entry.bytes, remove_files=self._remove_files
        )
        self.corrupt = 0

    @property
    def entries(self) -> int:
        return len(self._files)

    @property
    def size_bytes(self) -> int:
        """Bytes of stored originals, of downloads in progress, and of removed files that a reader still has open."""
        return self._files.size_bytes

    @property
    def evictions(self) -> int:
        return self._files.evictions

    def pin(self, key: str) -> AbstractContextManager[None]:
        """Until the end of the context, the original is not evicted, also if it is stored meanwhile."""
        return self._files.pin(name_of(key))

    def metadata(self, key: str) -> OriginMetadata | None:
        """None: the original is not stored. Raises OSError when the metadata cannot be read."""
        name = name_of(key)
        try:
            metadata = self._read(name)
        except FileNotFoundError:
            return None
        if metadata is None or metadata.key != key:
            self._discard_corrupt(name)
            return None
        return metadata

    def open(self, metadata: OriginMetadata) -> int | None:
        """A descriptor of the body. None: the body is gone, or is not what its digest says and has been removed."""
        assert metadata.body is not None
        name, short_digest = name_of(metadata.key), _short_digest(metadata.body)
        try:
            descriptor, status = open_regular(self._body_path(name, short_digest))
        except FileNotFoundError:
            self._discard_state(name, short_digest)
            return None
        if self._is_intact(name, metadata.body, descriptor, status):
            self._files.touch(name, self._metadata_path(name))
            return descriptor
        os.close(descriptor)
        self._discard_corrupt(name)
        return None

    def path(self, metadata: OriginMetadata) -> Path:
        """The path of the body."""
        assert metadata.body is not None
        return self._body_path(name_of(metadata.key), _short_digest(metadata.body))

    def update_metadata(self, metadata: OriginMetadata) -> None:
        """Replaces the metadata of a body that is stored already. Raises OSError when it cannot be written."""
        assert metadata.body is not None
        name = name_of(metadata.key)
        written = self._write_metadata(serialization.encode(metadata))
        with self._files.lock:
            if self._is_stored(name, _short_digest(metadata.body)):
                written.replace(self._metadata_path(name))
            else:  # evicted or replaced meanwhile: metadata without its body is of no use
                unlink(written)

    def commit(self, partial: Path, metadata: OriginMetadata, status: os.stat_result) -> None:
        """Gives a complete download its name. The bytes of its body are reserved already. Raises OSError, and
        Unavailable as `reserve`."""
        assert metadata.body is not None
        name, short_digest, text = name_of(metadata.key), _short_digest(metadata.body), serialization.encode(metadata)
        size = disk_bytes(len(text))
        self.reserve(size)
        try:
            written = self._write_metadata(text)
            with self._files.lock:
                self._rename(name, short_digest, partial, written)
                self._files.add(name, _Entry(short_digest, disk_bytes(metadata.body.length) + size, _seen(status)))
        except BaseException:
            self.release(size)
            raise

    def remove(self, key: str) -> None:
        self._discard(name_of(key))

    def sweep(self, matches: Callable[[OriginMetadata], bool]) -> None:
        """Removes every original whose metadata matches or cannot be decoded. Raises the first exception of `matches`
        after it has gone through all originals."""
        failure: Exception | None = None
        for name in self._files.paced_names():
            try:
                metadata = self._read(name)
                if metadata is None or matches(metadata):
                    self._discard(name)
            except OSError:
                continue
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def reserve(self, wanted: int) -> None:
        """Counts bytes before they are written. Raises Unavailable when all the space is taken by downloads in progress
        and by originals that are being read."""
        if not self._files.reserve(wanted):
            raise Unavailable("The origin cache is full of originals in use", reason="origin_cache", retry_after=1)

    def release(self, reserved: int) -> None:
        self._files.release(reserved)

    def write(self, file: BinaryIO, data: bytes) -> None:
        """On a disk that is fuller than the limit knows, evicts originals until the bytes fit. Raises OSError when
        there are no more to evict."""
        view = memoryview(data)
        while view:
            try:
                view = view[file.write(view) :]
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._files.evict_one():
                    raise

    def partial_path(self) -> Path:
        """A path for a download in progress, on the file system of the store so that it can be renamed."""
        return self._partial.new_path()

    def start(self) -> None:
        """Deletes the partial downloads of servers that have ended. Raises OSError if the folder cannot be created."""
        self._partial.start()

    def scan(self) -> None:
        """Counts the originals that an earlier server stored, and removes files that are not a pair of body and
        metadata."""
        self._files.scan(self._scanned_entry, last_used=_last_used)

    def stop(self) -> None:
        """Ends the scan or sweep in progress, and every later one."""
        self._files.stop()
        self._partial.stop()

    def _rename(self, name: str, short_digest: str, partial: Path, written: Path) -> None:
        self._files.remove(name)
        path = self._body_path(name, short_digest)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            partial.replace(path)
            written.replace(self._metadata_path(name))
        except BaseException:
            unlink(path)
            unlink(written)
            raise

    def _read(self, name: str) -> OriginMetadata | None:
        return serialization.decode(read_file(self._metadata_path(name), serialization.LIMIT_BYTES))

    def _write_metadata(self, text: bytes) -> Path:
        path = self.partial_path()
        write_new_file(path, text, write=self.write)
        return path

    def _is_stored(self, name: str, short_digest: str) -> bool:
        entry = self._files.get(name)
        if entry is None:  # the scan may not have counted it yet
            return not self._files.scanned and self._body_path(name, short_digest).exists()
        return entry.short_digest == short_digest

    def _is_intact(self, name: str, body: StoredBody, descriptor: int, status: os.stat_result) -> bool:
        entry = self._files.get(name)
        is_current = entry is not None and entry.short_digest == _short_digest(body)
        if entry is not None and is_current and entry.seen == _seen(status):
            return True
        if status.st_size != body.length or _digest(descriptor) != body.digest:
            return False
        if entry is not None and is_current:
            entry.seen = _seen(status)
        return True

    def _discard_corrupt(self, name: str) -> None:
        self.corrupt += 1
        self._discard(name)

    def _discard(self, name: str) -> None:
        """Removes the original also when the scan has not counted it yet."""
        with self._files.lock:
            self._files.remove(name)
            unlink(self._metadata_path(name))

    def _discard_state(self, name: str, short_digest: str) -> None:
        """`_discard` of the state with that digest: another state may have been stored meanwhile."""
        with self._files.lock:
            entry = self._files.get(name)
            if entry is None or entry.short_digest == short_digest:
                self._discard(name)

    def _scanned_entry(self, name: str, found: list[FoundFile]) -> _Entry | None:
        """The entry of a pair that is not counted yet; files that belong to no entry are removed."""
        files = [file for file in found if _SUFFIX.fullmatch(file.suffix)]
        sizes = {file.suffix[1:]: file.bytes for file in files if file.bytes is not None}
        digests = sizes.keys() - {METADATA[1:]}
        entry = self._files.get(name)
        if entry is not None:  # stored during the scan; the state before it may still be there
            for digest in digests - {entry.short_digest}:
                unlink(self._body_path(name, digest))
            return None
        if len(files) == len(sizes) == 2 and len(digests) == 1:
            return _Entry(digests.pop(), sum(map(disk_bytes, sizes.values())))
        for file in files:
            unlink(Path(file.path))
        return None

    def _remove_files(self, name: str, entry: _Entry) -> None:
        unlink(self._metadata_path(name))
        unlink(self._body_path(name, entry.short_digest))

    def _metadata_path(self, name: str) -> Path:
        return Path(f"{path_of(self._root, name)}{METADATA}")

    def _body_path(self, name: str, short_digest: str) -> Path:
        return Path(f"{path_of(self._root, name)}.{short_digest}")


def _short_digest(body: StoredBody) -> str:
    return body.digest[:SHORT_DIGEST_LENGTH]


def _seen(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest(descriptor: int) -> str:
    hasher, offset = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, HASHED_BYTES, offset):
        hasher.update(chunk)
        offset += len(chunk)
    return hasher.hexdigest()


def _last_used(found: list[FoundFile]) -> float:
    """The time of the metadata, which every use touches."""
    return next((file.used for file in found if file.suffix == METADATA), 0.0)
