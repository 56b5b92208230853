"""Write-behind: records are written to the slower tiers after the response, within a byte budget."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from imgserver.plan.rendition import Rendition

# The overhead of a pending write beside its body.
ENTRY_BYTES = 1_100

log = logging.getLogger(__name__)

# A rendition to store, or None to drop the key.
Change = Rendition | None


class WriteBehind:
    """Keeps the latest change per key until a writer has applied it. Changes beyond `limit_bytes` are dropped.

    `write(key, change)` applies one; what it raises is logged. `run` is one writer: start as many as may write at once.
    """

    def __init__(self, write: Callable[[str, Change], Awaitable[None]], *, limit_bytes: int) -> None:
        self._write = write
        self._limit_bytes = limit_bytes
        self._keys: asyncio.Queue[str] = asyncio.Queue()
        self._changes: dict[str, Change] = {}
        # Changes per key that are not applied yet, including those that a writer has taken.
        self._pending: Counter[str] = Counter()
        self._applied = asyncio.Condition()
        self.bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        """The number of keys with a pending change."""
        return len(self._pending)

    def schedule(self, key: str, change: Change) -> bool:
        """Replaces an earlier change of the key that no writer has taken. False: beyond the limit, and counted."""
        weight = _weight(change)
        replaces = key in self._changes
        old = _weight(self._changes[key]) if replaces else 0
        if self.bytes - old + weight > self._limit_bytes:
            self.dropped += 1
            return False
        self.bytes += weight - old
        self._changes[key] = change
        if not replaces:
            self._pending[key] += 1
            self._keys.put_nowait(key)
        return True

    def is_dropping(self, key: str) -> bool:
        """Whether a drop of the key is pending, so that the tiers may still have the record."""
        return self._changes.get(key, True) is None

    async def run(self) -> None:
        """Applies one change after the other until it is cancelled."""
        while True:
            key = await self._keys.get()
            change = self._changes.pop(key)
            try:
                await self._write(key, change)
            except Exception:
                log.exception("cache.write_failed")
            finally:
                self.bytes -= _weight(change)
                self._pending[key] -= 1
                if not self._pending[key]:
                    del self._pending[key]
                async with self._applied:
                    self._applied.notify_all()

    async def wait_applied(self, key: str, *, seconds: float) -> bool:
        """Waits until the key has no pending change. False: not in time."""
        return await self._wait(lambda: key not in self._pending, seconds)

    async def drain(self, *, seconds: float) -> bool:
        """Waits until no change is pending. False: not in time."""
        return await self._wait(lambda: not self._pending, seconds)

    async def _wait(self, is_done: Callable[[], bool], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds), self._applied:
                await self._applied.wait_for(is_done)
        except TimeoutError:
            return False
        return True


def _weight(change: Change) -> int:
    return ENTRY_BYTES + (0 if change is None else len(change.body))
