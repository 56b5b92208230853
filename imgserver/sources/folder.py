"""A folder of pictures on this machine: read, and written only when that is asked for."""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from imgserver.errors import ImgserverError, NotFound, ServerFault, SourceDenied, Unavailable
from imgserver.plan.rendition import Fingerprint, Original
from imgserver.runtime.files import LINUX_FDS, open_regular, read_head, store_file, worker_path
from imgserver.runtime.threads import ThreadPool
from imgserver.sources.listing import LOOKED_AT, is_picture

T = TypeVar("T")

THREADS = 4
# How long the look at a file that was read may take; it is one system call, on a file system that may hang.
LAST_LOOK_SECONDS = 2.0


class Folder:
    """Serves regular files below `root`. Symlinks may point about inside the folder, never out of it.

    A folder that is away (moved, or its file system unmounted) makes nothing absent: that is told apart by its device.

    On Linux a worker is given the opened file itself (by way of /proc), so that a file replaced or swapped for a
    symlink after the check is still read as the one that was checked. A file that is written over while it is read is
    found out afterwards: what old and new bytes make together is no picture of either.
    """

    def __init__(self, root: Path, *, writable: bool = False) -> None:
        self.root = root.resolve()
        self._writable = writable
        if not self.root.is_dir():
            raise ServerFault(f"{root} is not a folder")
        if writable:
            _refuse_unwritable(root)
        self._device = self.root.stat().st_dev
        self._threads = ThreadPool(THREADS, "folder")

    @asynccontextmanager
    async def open(self, path: str) -> AsyncIterator[Original]:
        descriptor, original = await self._in_thread(lambda: self._opened(path), undo=lambda done: os.close(done[0]))
        try:
            try:
                yield original
            except ImgserverError:
                await self._refuse_changed(descriptor, original.fingerprint)
                raise
            await self._refuse_changed(descriptor, original.fingerprint)
        finally:
            os.close(descriptor)

    async def fingerprint(self, path: str) -> Fingerprint:
        return await self._in_thread(lambda: _fingerprint(self._resolved(path).stat()))

    async def fetch(self, path: str) -> None:
        """It is here."""

    async def store(self, path: str, body: bytes, *, replace: bool = False) -> None:
        """As in `Writable`. Names that begin with a dot are not written: they are for those who run the folder."""
        if not self._writable:
            raise SourceDenied("This source is only read")
        await self._in_thread(lambda: self._stored(path, body, replace=replace))

    async def pictures(self, limit: int) -> list[str]:
        """The first `limit` of `pictures_in` the folder."""
        return await self._in_thread(lambda: list(islice(pictures_in(self.root), limit)))

    def close(self) -> None:
        self._threads.close()

    async def _in_thread(self, work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        try:
            return await self._threads.run(partial(self._while_there, work), undo=undo)
        except OSError as error:
            raise _translated(error) from error
        except ValueError as error:  # an embedded NUL, which no file name has
            raise NotFound() from error

    def _while_there(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (OSError, NotFound):
            if not self._is_there():
                raise Unavailable("The folder with the originals is away", reason="source", retry_after=5) from None
            raise

    def _is_there(self) -> bool:
        """An unmounted file system leaves an empty folder of another device."""
        try:
            facts = self.root.stat()
        except OSError:
            return False
        return stat.S_ISDIR(facts.st_mode) and facts.st_dev == self._device

    async def _refuse_changed(self, descriptor: int, seen: Fingerprint) -> None:
        """Raises Unavailable when the file is not as it was `seen`: in a moment it will be whole, and cached nowhere as
        broken. A name that leads elsewhere by now changes nothing."""
        try:
            async with asyncio.timeout(LAST_LOOK_SECONDS):
                now = await self._in_thread(lambda: _fingerprint(os.fstat(descriptor)))
        except TimeoutError as error:
            raise Unavailable("The source does not answer", reason="source", retry_after=1) from error
        if now != seen:
            raise Unavailable("The source was changed while it was read", reason="changed", retry_after=1)

    def _opened(self, path: str) -> tuple[int, Original]:
        resolved = self._resolved(path)
        descriptor, facts = open_regular(resolved)
        try:
            return descriptor, self._original(descriptor, facts, resolved)
        except BaseException:
            os.close(descriptor)
            raise

    def _stored(self, path: str, body: bytes, *, replace: bool) -> None:
        names = path.split("/")
        if any(not name or name.startswith(".") for name in names):
            raise NotFound()
        folder = self.root.joinpath(*names[:-1]).resolve()
        if not folder.is_relative_to(self.root):
            raise NotFound()
        store_file(folder / names[-1], body, replace=replace)

    def _resolved(self, path: str) -> Path:
        try:
            resolved = self.root.joinpath(path).resolve(strict=True)
        except RuntimeError as error:  # symlinks in a circle; an OSError from Python 3.13 on
            raise NotFound() from error
        if not resolved.is_relative_to(self.root):
            raise NotFound(outside=True)
        return resolved

    def _original(self, descriptor: int, facts: os.stat_result, resolved: Path) -> Original:
        if LINUX_FDS.exists() and not (LINUX_FDS / str(descriptor)).readlink().is_relative_to(self.root):
            raise NotFound(outside=True)
        return Original(
            path=worker_path(descriptor, resolved),
            head=read_head(descriptor),
            fingerprint=_fingerprint(facts),
            size_bytes=facts.st_size,
            modified=facts.st_mtime_ns // 1_000_000_000,
        )


def _refuse_unwritable(root: Path) -> None:
    """By writing, where the system has files without names: modes do not tell of read-only mounts, nor bind root."""
    try:
        TemporaryFile(dir=root).close()
    except OSError as error:
        raise ServerFault(f"{root} cannot be written to: {os.strerror(error.errno or 0)}") from error


def pictures_in(root: Path) -> Iterator[str]:
    """Paths inside `root` of the files that are named like pictures, among the first LOOKED_AT that are not hidden."""
    for path in islice(_visible_files(root), LOOKED_AT):
        if is_picture(path.name):
            yield path.relative_to(root).as_posix()


def _visible_files(root: Path) -> Iterator[Path]:
    """In the order of their names, a folder's own files before its folders."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _fingerprint(facts: os.stat_result) -> Fingerprint:
    return Fingerprint(f"{facts.st_size:x}-{facts.st_mtime_ns:x}-{facts.st_ino:x}")


def _translated(error: OSError) -> NotFound | Unavailable:
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return Unavailable("The server has too many files open", reason="memory", retry_after=1)
    return NotFound()
