"""Single flight: one making per key, shared by all who ask while it is aloft."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import aiojobs

from imgserver.errors import Unavailable

T = TypeVar("T")

# How long close() waits for cancelled flights: each may still be watching its worker die.
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class FlightStatistics:
    aloft: int
    """Flights now in the air: one per key being made."""
    waiting: int
    """Requests now waiting for a flight, leaders included."""
    coalesced: int
    """Requests that ever joined another's flight instead of starting their own."""


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    landed: "asyncio.Future[T]"
    waiters: int = 0
    task: "asyncio.Task[object] | None" = None


class Flights(Generic[T]):
    """Flights by key. A flight belongs to nobody who waits for it: it runs in its own task and outlives its leader.

    It is cancelled when the last waiter has left, and forgotten the moment it lands or is cancelled: neither results
    nor failures are remembered, and who comes later starts anew. Use from one event loop.
    """

    def __init__(self) -> None:
        self._aloft: dict[Hashable, _Flight[T]] = {}
        self._scheduler = aiojobs.Scheduler(limit=None, close_timeout=CLOSE_SECONDS)
        self._coalesced = 0

    async def join(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The result of the key's flight, and whether it was another's: True for followers, who never call `make`.

        What `make` raises is raised here, in every waiter. Unavailable: the flights are closed or closing.
        """
        flight = self._aloft.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._register(key)
        else:
            self._coalesced += 1
        flight.waiters += 1
        try:
            if not joined:
                await self._scheduler.spawn(self._fly(key, flight, make), name=f"flight {key!s:.32}")
            return await asyncio.shield(flight.landed), joined
        finally:
            flight.waiters -= 1
            if not flight.waiters:
                self._abandon(key, flight)

    def is_aloft(self, key: Hashable) -> bool:
        """Whether who joins now is a follower."""
        return key in self._aloft

    def statistics(self) -> FlightStatistics:
        waiting = sum(flight.waiters for flight in self._aloft.values())
        return FlightStatistics(aloft=len(self._aloft), waiting=waiting, coalesced=self._coalesced)

    async def close(self) -> None:
        """Cancels what is aloft and waits until it has ended; waiters get Unavailable."""
        await self._scheduler.close()

    def _register(self, key: Hashable) -> _Flight[T]:
        if self._scheduler.closed:
            raise _closing()
        flight = self._aloft[key] = _Flight[T](asyncio.get_running_loop().create_future())
        return flight

    async def _fly(self, key: Hashable, flight: _Flight[T], make: Callable[[], Awaitable[T]]) -> None:
        flight.task = asyncio.current_task()
        try:
            _land(flight, await make())
        except asyncio.CancelledError:
            _fail(flight, _closing())
            raise
        except Exception as error:
            _fail(flight, error)
        finally:
            self._forget(key, flight)

    def _abandon(self, key: Hashable, flight: _Flight[T]) -> None:
        if flight.landed.done():
            return
        # Forgotten before it has ended: who asks now must not join a flight that is being called off.
        self._forget(key, flight)
        flight.landed.cancel()
        if flight.task is not None:
            flight.task.cancel()

    def _forget(self, key: Hashable, flight: _Flight[T]) -> None:
        if self._aloft.get(key) is flight:
            del self._aloft[key]


def _land(flight: _Flight[T], result: T) -> None:
    if not flight.landed.done():
        flight.landed.set_result(result)


def _fail(flight: _Flight[T], error: Exception) -> None:
    if not flight.landed.done():
        flight.landed.set_exception(error)
        # Read once here, or a failure whose waiters all left in the same tick is reported as never retrieved.
        flight.landed.exception()


def _closing() -> Unavailable:
    return Unavailable("The server is closing", reason="drain", retry_after=1)


# Look-ups: concurrent requests for one key share what the first of them finds.

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
