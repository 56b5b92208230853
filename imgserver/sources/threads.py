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

    async def run(self, work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        """`undo` takes back what a thread has done for a caller who left meanwhile."""
        try:
            future = self._pool.submit(work)
        except RuntimeError as closed:
            raise Unavailable("The server is closing", reason="drain", retry_after=1) from closed
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if undo is not None:
                future.add_done_callback(lambda done: _undo(done, undo))
            raise

    def close(self) -> None:
        """Drops what waits for a thread, and does not wait for a disk that has stopped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _undo(done: Future[T], undo: Callable[[T], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        undo(done.result())
