"""Files of uploads: without a name from the moment they are opened, so that nothing is left of them whatever ends the
request or the process. Written and closed in threads; a worker reads them by way of /proc."""

import errno
import os
import tempfile
import threading
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import IO, TypeVar

from imgserver.errors import ServerFault, Unavailable
from imgserver.plan.rendition import Fingerprint, Original
from imgserver.plan.sniffing import HEAD_BYTES
from imgserver.rendering.upload_admission import RETRY_AFTER_SECONDS, Uploads
from imgserver.runtime.files import write_all
from imgserver.runtime.threads import ThreadPool

T = TypeVar("T")

THREADS = 2
CLOSE_SECONDS = 2.0
# A thread is asked for this much at a time: a call costs as much as writing 50 KiB.
WRITTEN_AT_ONCE = 256 * 1024
DIGEST_BYTES = 16


class TempFiles:
    """Raises ServerFault for a folder that is none."""

    def __init__(self, folder: Path, uploads: Uploads) -> None:
        self._folder = None if folder == Path() else folder
        if self._folder is not None and not self._folder.is_dir():
            raise ServerFault(f"{self._folder} is not a folder (uploads.temp_path)")
        self._uploads = uploads
        self._threads = ThreadPool(THREADS, "uploads")

    async def open(self) -> "TempFile":
        """Raises Unavailable."""
        return TempFile(await in_thread(self._threads, self._opened), self._threads, self._uploads)

    async def close(self) -> None:
        """Closes the files of ended requests that are still open."""
        await self._threads.drain(CLOSE_SECONDS)
        self._threads.close()

    def _opened(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self._folder, buffering=0)


class TempFile:
    """Write all, then ask for the `original`; close in any case."""

    def __init__(self, file: IO[bytes], threads: ThreadPool, uploads: Uploads) -> None:
        self.bytes = 0
        self._file = file
        self._threads = threads
        self._uploads = uploads
        self._pending = bytearray()
        self._digest = blake2b(digest_size=DIGEST_BYTES)
        # A caller who leaves does not stop the thread that writes for it: its descriptor must not be another's by then.
        self._lock = threading.Lock()

    async def write(self, data: bytes) -> None:
        """Raises Unavailable when there is no space."""
        self._uploads.claim(len(data))
        self.bytes += len(data)
        self._pending += data
        if len(self._pending) >= WRITTEN_AT_ONCE:
            await self._flush()

    async def original(self) -> Original:
        await self._flush()
        head = await in_thread(self._threads, self._head)
        return Original(
            path=f"/proc/{os.getpid()}/fd/{self._file.fileno()}",
            head=head,
            fingerprint=Fingerprint(self._digest.hexdigest()),
            size_bytes=self.bytes,
            modified=None,
        )

    def close(self) -> None:
        """Once. Returns at once; the space is free again."""
        self._uploads.release(self.bytes)
        self._threads.submit_to_completion(self._closed)

    async def _flush(self) -> None:
        data, self._pending = bytes(self._pending), bytearray()
        await in_thread(self._threads, lambda: self._written(data))

    def _written(self, data: bytes) -> None:
        with self._lock:
            if not self._file.closed:
                self._digest.update(data)
                write_all(self._file, data)

    def _head(self) -> bytes:
        with self._lock:
            return os.pread(self._file.fileno(), HEAD_BYTES, 0)

    def _closed(self) -> None:
        with self._lock:
            self._file.close()


async def in_thread(threads: ThreadPool, work: Callable[[], T]) -> T:
    """Raises Unavailable for what the system refuses."""
    try:
        return await threads.run(work)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = "space" if full else "files"
        raise Unavailable("The upload cannot be kept now", reason=reason, retry_after=RETRY_AFTER_SECONDS) from error
