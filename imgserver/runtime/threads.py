"""Threads in which a source does what may block: the loop waits for a disk no longer than its caller does."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from imgserver.errors import Unavailable

T = TypeVar("T")


class Threads:
    """A few threads with a name. What they raise is raised in the caller; Unavailable when they are closed."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._owed: set[Future[None]] = set()

    async def run(self, work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        """`undo` takes back what a thread has done for a caller who left meanwhile."""
        future = self._submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if undo is not None:
                future.add_done_callback(lambda done: _undo(done, undo))
            raise

    async def see_through(self, work: Callable[[], None]) -> None:
        """For what must be done though its caller leaves, or is called off twice: `settle` waits for it."""
        future = self._submit(work)
        self._owed.add(future)
        future.add_done_callback(self._owed.discard)
        await asyncio.shield(asyncio.wrap_future(future))

    async def settle(self, seconds: float) -> None:
        """Waits for what is being seen through, but not for a disk that has stopped."""
        owed = [asyncio.wrap_future(future) for future in list(self._owed)]
        if owed:
            await asyncio.wait(owed, timeout=seconds)

    def close(self) -> None:
        """Drops what waits for a thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        try:
            return self._pool.submit(work)
        except RuntimeError as closed:
            raise Unavailable("The server is closing", reason="drain", retry_after=1) from closed


def _undo(done: Future[T], undo: Callable[[T], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        undo(done.result())
