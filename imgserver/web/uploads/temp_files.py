"""Temporary files of uploads. A file has no name from the moment it is opened, so nothing remains of it however the
request or the process ends. It is written and closed in threads; a worker opens it through /proc."""

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
from imgserver.rendering.upload_admission import RETRY_AFTER_SECONDS, UploadAdmission
from imgserver.runtime.files import check_readable, write_all
from imgserver.runtime.threads import ThreadPool

T = TypeVar("T")

THREADS = 2
CLOSE_SECONDS = 2.0
# The bytes of one call to a thread: the call itself costs as much as writing 50 KiB.
WRITE_BYTES = 256 * 1024
DIGEST_BYTES = 16


class TempFiles:
    def __init__(self, folder: Path, admission: UploadAdmission) -> None:
        """`Path()` stands for the system's folder. Raises ServerFault for a folder that does not exist."""
        self._folder = None if folder == Path() else folder
        if self._folder is not None and not self._folder.is_dir():
            raise ServerFault(f"{self._folder} is not a folder (uploads.temp_path)")
        self._admission = admission
        self._threads = ThreadPool(THREADS, "uploads")

    async def open(self) -> "TempFile":
        """An empty file. Raises Unavailable."""
        return TempFile(await _run(self._threads, self._open), self._threads, self._admission)

    async def close(self) -> None:
        """Waits until the files of ended requests are closed."""
        await self._threads.drain(CLOSE_SECONDS)
        self._threads.close()

    def _open(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self._folder, buffering=0)


class TempFile:
    """Write all data, then call `original`. Always call `close`."""

    def __init__(self, file: IO[bytes], threads: ThreadPool, admission: UploadAdmission) -> None:
        self.bytes = 0
        self._file = file
        self._threads = threads
        self._admission = admission
        self._pending = bytearray()
        self._digest = blake2b(digest_size=DIGEST_BYTES)
        # A cancelled caller does not stop the thread that writes for it. Without the lock, `close` could free the
        # descriptor during the write, and the thread would write into another file that got the same number.
        self._lock = threading.Lock()

    async def write(self, data: bytes) -> None:
        """Raises Unavailable when there is no space."""
        self._admission.claim_bytes(len(data))
        self.bytes += len(data)
        self._pending += data
        if len(self._pending) >= WRITE_BYTES:
            await self._flush()

    async def original(self) -> Original:
        """The file as an original, whose fingerprint is the digest of its bytes. It can be read until `close`."""
        await self._flush()
        head = await _run(self._threads, self._read_head)
        return Original(
            path=f"/proc/{os.getpid()}/fd/{self._file.fileno()}",
            head=head,
            fingerprint=Fingerprint(self._digest.hexdigest()),
            size_bytes=self.bytes,
            modified=None,
        )

    async def check_readable(self) -> None:
        """For an upload that does not decode. Raises Unavailable if the disk does not give back what was written."""
        await _run(self._threads, self._check_readable)

    def close(self) -> None:
        """Frees the space and returns immediately; a thread closes the file. Call it once."""
        self._admission.release_bytes(self.bytes)
        self._threads.submit_to_completion(self._close)

    async def _flush(self) -> None:
        data, self._pending = bytes(self._pending), bytearray()
        await _run(self._threads, lambda: self._write(data))

    def _write(self, data: bytes) -> None:
        with self._lock:
            if not self._file.closed:
                self._digest.update(data)
                write_all(self._file, data)

    def _read_head(self) -> bytes:
        with self._lock:
            return os.pread(self._file.fileno(), HEAD_BYTES, 0)

    def _check_readable(self) -> None:
        with self._lock:
            check_readable(self._file.fileno(), self.bytes)

    def _close(self) -> None:
        with self._lock:
            self._file.close()


async def _run(threads: ThreadPool, work: Callable[[], T]) -> T:
    """The result of `work` in a thread. Raises Unavailable for an error of the operating system."""
    try:
        return await threads.run(work)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = "space" if is_full else "files"
        raise Unavailable("The upload cannot be stored now", reason=reason, retry_after=RETRY_AFTER_SECONDS) from error
