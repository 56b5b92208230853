"""Named thread pools for calls that may block: the event loop never waits for a disk, and a caller no longer than it
wants to."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from imgserver.errors import Unavailable

T = TypeVar("T")


class PoolBusy(Exception):
    """`max_pending` calls are running or waiting for a thread."""


class ThreadPool:
    """`count` threads whose names begin with `name`. `max_pending` bounds the calls that are running or waiting for a
    thread; without it there is no bound.

    Every method that takes work raises Unavailable after `close`, and PoolBusy at `max_pending`.
    """

    def __init__(self, count: int, name: str, *, max_pending: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._free_places = threading.BoundedSemaphore(max_pending) if max_pending is not None else None
        self._to_complete: set[Future[None]] = set()

    async def run(self, work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        """The result of `work` in a thread; raises what it raises.

        A cancelled caller does not wait for the thread. Work that has not begun is dropped then; the result of work
        that has begun is passed to `undo`.
        """
        future = self.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if undo is not None:
                future.add_done_callback(lambda done: _undo(done, undo))
            raise
        finally:
            # It holds the traceback of its error, and the traceback holds this frame: a cycle without this.
            del future

    async def run_to_completion(self, work: Callable[[], None]) -> None:
        """`run` for work that is done even when its caller is cancelled."""
        await asyncio.shield(asyncio.wrap_future(self.submit_to_completion(work)))

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Returns immediately."""
        if self._free_places is not None and not self._free_places.acquire(blocking=False):
            raise PoolBusy
        try:
            future = self._pool.submit(work)
        except RuntimeError as closed:
            self._release_place()
            raise Unavailable("The server is closing", reason="drain", retry_after=1) from closed
        # When the thread is done, which may be after the caller was cancelled.
        future.add_done_callback(lambda _: self._release_place())
        return future

    def submit_to_completion(self, work: Callable[[], None]) -> "Future[None]":
        """`submit` for work that `drain` waits for."""
        future = self.submit(work)
        self._to_complete.add(future)
        future.add_done_callback(self._to_complete.discard)
        return future

    async def drain(self, seconds: float) -> None:
        """Waits for work that must be completed, but not longer than `seconds`: a disk may hang."""
        futures = [asyncio.wrap_future(future) for future in list(self._to_complete)]
        if futures:
            await asyncio.wait(futures, timeout=seconds)

    def close(self) -> None:
        """Drops work that waits for a thread, and does not wait for the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _release_place(self) -> None:
        if self._free_places is not None:
            self._free_places.release()


def _undo(done: Future[T], undo: Callable[[T], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        undo(done.result())
