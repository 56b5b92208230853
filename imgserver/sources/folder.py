"""A folder of images on this machine, read-only unless its settings make it writable."""

import asyncio
import errno
import logging
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from imgserver.errors import (
    ImgserverError,
    NotFound,
    ServerFault,
    SourceDenied,
    Unavailable,
    is_absence,
)
from imgserver.headers.caching import HTTP_DATES
from imgserver.plan.rendition import Fingerprint, Original
from imgserver.runtime.files import LINUX_FDS, check_readable, open_regular, read_head, store_file, worker_path
from imgserver.runtime.threads import ThreadPool
from imgserver.runtime.ttl_map import TtlMap
from imgserver.sources.config import SourceConfig
from imgserver.sources.listing import MAX_LISTED, is_hidden, is_image
from imgserver.sources.schemes import SourceContext
from imgserver.sources.source import Source
from imgserver.sources.undecodable import mark_young, may_be_incomplete, refuse_unfinished

T = TypeVar("T")

THREADS = 4
# Time-out of the check that a file was not overwritten: one system call, on a file system that may hang.
CHANGE_CHECK_SECONDS = 2.0
WARNING_SECONDS = 60.0

log = logging.getLogger(__name__)


def make_source(config: SourceConfig, _: SourceContext) -> Source:
    """The factory of the scheme file. Raises ServerFault."""
    assert config.folder is not None
    return FolderSource(config.folder, writable=config.writable)


def check(config: SourceConfig) -> None:
    """The settings check of the scheme file. Raises ValueError."""
    if not config.url.lower().startswith("file:///") or "?" in config.url or "#" in config.url:
        raise ValueError("url: the URL of a folder is file:///path, without host and query")


def identity(config: SourceConfig) -> str:
    """The identity of the scheme file: the folder, whichever symlinks lead to it."""
    assert config.folder is not None
    return str(config.folder.resolve())


class FolderSource(Source):
    """Serves regular files below `root`. Symlinks may lead to other places in the folder, never out of it. Files and
    folders whose names begin with a dot are not served: they are settings, drafts and files that are being copied. A
    symlink with another name may lead to them.

    While the folder is away (moved, or its file system unmounted), no file counts as absent: requests raise
    Unavailable. An unmounted file system is recognized by the device number of the folder. The same holds for a file
    whose file system fails for now: only the errors of `is_absence` mean that there is no such file. Other errors are
    logged, once per WARNING_SECONDS.

    On Linux a worker gets the opened file itself, by its path in /proc: a file that is replaced, or swapped for a
    symlink, after the check is still read as the one that was checked. A file that is overwritten in place while it is
    read is detected afterwards, because old and new bytes together are not an image.
    """

    def __init__(self, root: Path, *, writable: bool = False) -> None:
        """Raises ServerFault if `root` is not a folder, or should be writable and is not."""
        self.root = root.resolve()
        self._writable = writable
        if not self.root.is_dir():
            raise ServerFault(f"{root} is not a folder")
        if writable:
            _refuse_unwritable(root)
        self._device = self.root.stat().st_dev
        self._threads = ThreadPool(THREADS, "folder")
        # Files that have not changed since are taken for finished.
        self._started = time.time()
        self._warned = TtlMap[str, bool](WARNING_SECONDS)

    async def close(self) -> None:
        self._threads.close()

    @asynccontextmanager
    async def open(self, path: str) -> AsyncIterator[Original]:
        descriptor, original = await self._in_thread(lambda: self._opened(path), undo=lambda done: os.close(done[0]))
        try:
            try:
                yield original
            except ImgserverError as error:
                await self._refuse_changed(descriptor, original.fingerprint)
                if may_be_incomplete(error, original.head):
                    await self._judge(error, descriptor, original.size_bytes)
                raise
            await self._refuse_changed(descriptor, original.fingerprint)
        finally:
            os.close(descriptor)

    async def head(self, path: str) -> bytes:
        return await self._in_thread(lambda: self._head(path))

    async def fingerprint(self, path: str) -> Fingerprint:
        return await self._in_thread(lambda: _fingerprint(_regular(self._resolved(path))))

    async def identity(self, path: str) -> str:
        """As in `Source`: the path that all symlinks lead to, if it is not hidden."""
        real = await self._in_thread(lambda: self._resolved(path).relative_to(self.root).as_posix())
        return path if is_hidden(real) else real

    async def listing(self, limit: int) -> list[str]:
        """As in `Source`: the first paths of `image_paths`."""
        return await self._in_thread(lambda: list(islice(image_paths(self.root), limit)))

    async def store(self, path: str, body: bytes, *, replace: bool = False) -> None:
        """As in `Source`. Names that begin with a dot are refused: they belong to the owner of the folder."""
        if not self._writable:
            raise SourceDenied("This source is read-only")
        await self._in_thread(lambda: self._store(path, body, replace=replace))

    async def check(self) -> None:
        if not await self._threads.run(lambda: os.access(self.root, os.R_OK | os.X_OK)):
            raise Unavailable(f"{self.root} cannot be read", reason="source", retry_after=5)

    async def _in_thread(self, work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        try:
            return await self._threads.run(partial(self._while_available, work), undo=undo)
        except OSError as error:
            raise self._translated(error) from error
        except ValueError as error:  # no file name contains NUL
            raise NotFound() from error

    def _while_available(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (OSError, NotFound):
            if not self._is_available():
                raise Unavailable("The folder with the originals is away", reason="source", retry_after=5) from None
            raise

    def _is_available(self) -> bool:
        """An unmounted file system leaves an empty folder with another device number."""
        try:
            status = self.root.stat()
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and status.st_dev == self._device

    def _translated(self, error: OSError) -> NotFound | Unavailable:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            return Unavailable("The server has too many files open", reason="memory", retry_after=1)
        if is_absence(error):
            return NotFound()
        text = error.strerror or type(error).__name__
        if not self._warned.get(text):
            self._warned.put(text, True)
            log.warning("folder.read_failed", extra={"folder": str(self.root), "error": text})
        return Unavailable("The source cannot be read now", reason="source", retry_after=5)

    def _head(self, path: str) -> bytes:
        descriptor, original = self._opened(path)
        os.close(descriptor)
        return original.head

    async def _refuse_changed(self, descriptor: int, before: Fingerprint) -> None:
        """Raises Unavailable if the open file has changed: the next request finds it whole, and nothing is cached as
        broken. It does not matter to which file the name leads by now."""
        try:
            async with asyncio.timeout(CHANGE_CHECK_SECONDS):
                after = await self._in_thread(lambda: _fingerprint(os.fstat(descriptor)))
        except TimeoutError as error:
            raise Unavailable("The source does not answer", reason="source", retry_after=1) from error
        if after != before:
            raise Unavailable("The source was changed while it was read", reason="changed", retry_after=1)

    async def _judge(self, error: ImgserverError, descriptor: int, size_bytes: int) -> None:
        """For a file that does not decode. Raises Unavailable if it cannot be read, or may still be being written."""

        def modified() -> float:
            check_readable(descriptor, size_bytes)
            return os.fstat(descriptor).st_mtime

        changed = await self._in_thread(modified)
        age = time.time() - changed
        if changed >= self._started:
            refuse_unfinished(age)
        mark_young(error, age)

    def _opened(self, path: str) -> tuple[int, Original]:
        resolved = self._resolved(path)
        descriptor, status = open_regular(resolved)
        try:
            return descriptor, self._original(descriptor, status, resolved)
        except BaseException:
            os.close(descriptor)
            raise

    def _store(self, path: str, body: bytes, *, replace: bool) -> None:
        names = path.split("/")
        if any(not name or name.startswith(".") for name in names):
            raise NotFound()
        folder = self.root.joinpath(*names[:-1]).resolve()
        if not folder.is_relative_to(self.root):
            raise NotFound()
        store_file(folder / names[-1], body, replace=replace)

    def _resolved(self, path: str) -> Path:
        if is_hidden(path):
            raise NotFound()
        try:
            resolved = self.root.joinpath(path).resolve(strict=True)
        except RuntimeError as error:  # a cycle of symlinks; an OSError since Python 3.13
            raise NotFound() from error
        if not resolved.is_relative_to(self.root):
            raise NotFound(outside=True)
        return resolved

    def _original(self, descriptor: int, status: os.stat_result, resolved: Path) -> Original:
        if LINUX_FDS.exists() and not (LINUX_FDS / str(descriptor)).readlink().is_relative_to(self.root):
            raise NotFound(outside=True)
        return Original(
            path=worker_path(descriptor, resolved),
            head=read_head(descriptor),
            fingerprint=_fingerprint(status),
            size_bytes=status.st_size,
            modified=modified if (modified := status.st_mtime_ns // 1_000_000_000) in HTTP_DATES else None,
        )


def _refuse_unwritable(root: Path) -> None:
    """Writes a file without a name: permission bits say nothing of read-only mounts, and do not bind root."""
    try:
        TemporaryFile(dir=root).close()
    except OSError as error:
        raise ServerFault(f"{root} cannot be written to: {os.strerror(error.errno or 0)}") from error


def image_paths(root: Path) -> Iterator[str]:
    """Relative paths of the files with names of images, among the first MAX_LISTED visible files of the folder. Raises
    OSError if a folder cannot be read for now."""
    for path in islice(_visible_files(root), MAX_LISTED):
        if is_image(path.name):
            yield path.relative_to(root).as_posix()


def _visible_files(root: Path) -> Iterator[Path]:
    """Sorted by name, the files of a folder before its subfolders; names that begin with a dot are skipped."""
    for folder, subfolders, names in os.walk(root, onerror=_refuse_unreadable):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


def _refuse_unreadable(error: OSError) -> None:
    """A folder that this server may not read is skipped; one that cannot be read for now must not look empty."""
    if not is_absence(error):
        raise error


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return Fingerprint(f"{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ino:x}")


def _regular(path: Path) -> os.stat_result:
    """The status of a regular file. Raises OSError, and NotFound for what is not a regular file."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NotFound()
    return status
