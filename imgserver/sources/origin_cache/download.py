"""An original that is still coming: a file without a name, counted as it grows. For threads, like its stock."""

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import BinaryIO

from imgserver.runtime import files
from imgserver.sources.origin_cache.metadata import OriginMetadata, StoredBody
from imgserver.sources.origin_cache.store import OriginStore


class PartialDownload:
    """Becomes an original by `keep`, or nothing by `abandon`. Each may come while another thread still writes a chunk
    for a fetch that was called off: what comes after the end does nothing."""

    def __init__(self, stock: OriginStore) -> None:
        self._stock = stock
        self._path = stock.coming()
        self._lock = Lock()
        self._file: BinaryIO | None = None
        self._hasher = hashlib.sha256()
        self._reserved = 0
        self._ended = False
        self.length = 0

    def write(self, chunk: bytes) -> None:
        """OSError: the disk does not take it. Unavailable: the spool has no room."""
        with self._lock:
            if self._ended:
                return
            more = files.weight(self.length + len(chunk)) - self._reserved
            self._stock.reserve(more)
            self._reserved += more
            self._stock.write(self._opened(), chunk)
            self._hasher.update(chunk)
            self.length += len(chunk)

    def keep(self, facts: OriginMetadata) -> OriginMetadata:
        """The facts with their body. OSError, Unavailable: as `write`; then it must still be abandoned."""
        with self._lock:
            file = self._opened()
            whole = replace(facts, body=StoredBody(self._hasher.hexdigest(), self.length))
            self._stock.take(self._path, whole, os.fstat(file.fileno()))
            self._end()
            return whole

    def abandon(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._end()
            self._stock.release(self._reserved)
            with suppress(OSError):
                self._path.unlink()

    def _opened(self) -> BinaryIO:
        """Made for the first byte: most answers are 304 or 404, and need no file."""
        if self._file is None:
            self._file = files.create(self._path)
        return self._file

    def _end(self) -> None:
        self._ended = True
        if self._file is not None:
            self._file.close()
