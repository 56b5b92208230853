"""Look-ups: whoever asks for a key while it is being looked up waits for what the first finds."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_LEFT: Final = object()


class LookUps(Generic[T]):
    """One look-up per key at a time, by the first who asks, in its own task: a flight of its own would cost more than
    the look-up. When the first leaves or fails, the next one looks for itself."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Future[T | object]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def join(self, key: Hashable, look: Callable[[], Awaitable[T]]) -> T:
        """Raises what `look` raises, to whom it belongs alone."""
        while (first := self._under_way.get(key)) is not None:
            found = await asyncio.shield(first)
            if found is not _LEFT:
                return found  # type: ignore[return-value]
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        told = self._under_way[key] = self._loop.create_future()
        result: T | object = _LEFT
        try:
            result = found = await look()
            return found
        finally:
            del self._under_way[key]
            told.set_result(result)
