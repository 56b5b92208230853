"""WriteBehind behind the answer: nobody waits for them, and they take no more memory than they are allowed."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from imgserver.plan.rendition import Rendition

# What a waiting write costs beside its body.
ENTRY_BYTES = 1_100

log = logging.getLogger(__name__)

# What is to be at a key: a rendition, or nothing.
Wish = Rendition | None


class WriteBehind:
    """The latest wish per key, carried out by whoever runs `work`, several at once. Over `limit_bytes`: dropped.

    `write(key, wish)` does it; what it raises is logged and ends nothing.
    """

    def __init__(self, write: Callable[[str, Wish], Awaitable[None]], *, limit_bytes: int) -> None:
        self._write = write
        self._limit_bytes = limit_bytes
        self._keys: asyncio.Queue[str] = asyncio.Queue()
        self._wishes: dict[str, Wish] = {}
        # Wished for and not carried out yet, those in the writers' hands included.
        self._open: Counter[str] = Counter()
        self._done = asyncio.Condition()
        self.bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._open)

    def wish(self, key: str, wish: Wish) -> bool:
        """Replaces what was wished for the key and not begun. False: over the limit, and counted."""
        weight = _weight(wish)
        known = key in self._wishes
        old = _weight(self._wishes[key]) if known else 0
        if self.bytes - old + weight > self._limit_bytes:
            self.dropped += 1
            return False
        self.bytes += weight - old
        self._wishes[key] = wish
        if not known:
            self._open[key] += 1
            self._keys.put_nowait(key)
        return True

    def is_going(self, key: str) -> bool:
        """Whether the key is to be dropped, and may still be found where it was."""
        return self._wishes.get(key, True) is None

    async def work(self) -> None:
        """For ever; one wish at a time, so call it once per writer."""
        while True:
            key = await self._keys.get()
            wish = self._wishes.pop(key)
            try:
                await self._write(key, wish)
            except Exception:
                log.exception("A write into the cache failed")
            finally:
                self.bytes -= _weight(wish)
                await self._close(key)

    async def carried_out(self, key: str, *, seconds: float) -> bool:
        """Waits until nothing is open for the key; False: not in time."""
        return await self._wait(lambda: not self._open[key], seconds)

    async def drain(self, *, seconds: float) -> bool:
        return await self._wait(lambda: not self._open, seconds)

    async def _close(self, key: str) -> None:
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
        async with self._done:
            self._done.notify_all()

    async def _wait(self, is_done: Callable[[], bool], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds), self._done:
                await self._done.wait_for(is_done)
        except TimeoutError:
            return False
        return True


def _weight(wish: Wish) -> int:
    return ENTRY_BYTES + (0 if wish is None else len(wish.body))
