"""A download under way: a file without its final name, counted as it grows. For threads, like the store."""

import hashlib
import os
from dataclasses import replace
from threading import Lock
from typing import BinaryIO

from imgserver.runtime.file_store import disk_bytes
from imgserver.runtime.files import create_file, unlink
from imgserver.sources.origin_cache.metadata import OriginMetadata, StoredBody
from imgserver.sources.origin_cache.store import OriginStore


class PartialDownload:
    """Ends with `commit` or with `discard`. Either may be called while another thread still writes a chunk for a fetch
    that was cancelled: `write` does nothing after the end."""

    def __init__(self, store: OriginStore) -> None:
        self._store = store
        self._path = store.partial_path()
        self._lock = Lock()
        self._file: BinaryIO | None = None
        self._hasher = hashlib.sha256()
        self._reserved = 0
        self._ended = False
        self.length = 0

    def write(self, chunk: bytes) -> None:
        """Raises OSError when the disk refuses the bytes, Unavailable when the origin cache has no space for them."""
        with self._lock:
            if self._ended:
                return
            more = disk_bytes(self.length + len(chunk)) - self._reserved
            self._store.reserve(more)
            self._reserved += more
            self._store.write(self._opened(), chunk)
            self._hasher.update(chunk)
            self.length += len(chunk)

    def commit(self, metadata: OriginMetadata) -> OriginMetadata:
        """Stores the original and returns its metadata with digest and length. Raises OSError and Unavailable as
        `write`; then `discard` must still be called."""
        with self._lock:
            file = self._opened()
            complete = replace(metadata, body=StoredBody(self._hasher.hexdigest(), self.length))
            self._store.commit(self._path, complete, os.fstat(file.fileno()))
            self._end()
            return complete

    def discard(self) -> None:
        """Removes the file. Does nothing after `commit`."""
        with self._lock:
            if self._ended:
                return
            self._end()
            self._store.release(self._reserved)
            unlink(self._path)

    def _opened(self) -> BinaryIO:
        """Created for the first byte: most responses are 304 or 404, and need no file."""
        if self._file is None:
            self._file = create_file(self._path)
        return self._file

    def _end(self) -> None:
        self._ended = True
        if self._file is not None:
            self._file.close()
