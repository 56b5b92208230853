"""Single flight: concurrent calls with the same key share one execution and its result."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import aiojobs

from imgserver.errors import Unavailable

T = TypeVar("T")

# How long close() waits for cancelled flights: each may still wait for its worker process to die.
CLOSE_SECONDS = 5.0

# The result of an inline flight whose caller was cancelled or failed: a follower takes over.
_ABANDONED: Final = object()


@dataclass(frozen=True, slots=True)
class SingleFlightStatistics:
    in_flight: int
    """Keys that are being worked on now."""
    waiting: int
    """Callers of `run` that wait now, the first of each key included."""
    coalesced: int
    """Callers since the start that shared the flight of another caller instead of starting one."""


@dataclass(slots=True, eq=False)
class _Flight:
    result: "asyncio.Future[Any]"
    waiters: int = 0
    task: "asyncio.Task[object] | None" = None


class SingleFlight(Generic[T]):
    """Flights by key. Results and failures are not cached: a call after the end of a flight starts another one.

    `run` is for expensive work: it runs in a task that no caller owns, and everybody shares its failure. `run_inline`
    is for cheap work, where a task would cost more than the work. One instance uses one of the two, not both. Use from
    one event loop.
    """

    def __init__(self) -> None:
        self._in_flight: dict[Hashable, _Flight] = {}
        self._scheduler = aiojobs.Scheduler(limit=None, close_timeout=CLOSE_SECONDS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._coalesced = 0

    async def run(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The result of the key's flight, and whether another caller started it: True for followers, whose `make` is
        never called.

        The flight outlives its first caller and is cancelled when its last waiting caller is cancelled. Every waiting
        caller raises what `make` raises. Unavailable: `close` was called.
        """
        flight = self._in_flight.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._register(key)
        else:
            self._coalesced += 1
        flight.waiters += 1
        try:
            if not joined:
                await self._scheduler.spawn(self._fly(key, flight, make), name=f"flight {key!s:.32}")
            return await asyncio.shield(flight.result), joined
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.result.done():
                self._abandon(key, flight)

    async def run_inline(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The result of the key's flight, which the first caller executes in its own task.

        When that caller is cancelled or `make` raises, the next waiting caller executes its own `make`. So a caller
        raises only what its own `make` raises. Unavailable: `close` was called.
        """
        while (flight := self._in_flight.get(key)) is not None:
            shared: T = await asyncio.shield(flight.result)
            if shared is not _ABANDONED:
                self._coalesced += 1
                return shared
        flight = self._register(key)
        result: object = _ABANDONED
        try:
            result = made = await make()
            return made
        finally:
            del self._in_flight[key]
            flight.result.set_result(result)

    def is_in_flight(self, key: Hashable) -> bool:
        """Whether a caller would now share a flight instead of starting one."""
        return key in self._in_flight

    def statistics(self) -> SingleFlightStatistics:
        waiting = sum(flight.waiters for flight in self._in_flight.values())
        return SingleFlightStatistics(in_flight=len(self._in_flight), waiting=waiting, coalesced=self._coalesced)

    async def close(self) -> None:
        """Cancels the flights of `run` and waits until they have ended; their callers raise Unavailable."""
        await self._scheduler.close()

    def _register(self, key: Hashable) -> _Flight:
        if self._scheduler.closed:
            raise _closing()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        flight = self._in_flight[key] = _Flight(self._loop.create_future())
        return flight

    async def _fly(self, key: Hashable, flight: _Flight, make: Callable[[], Awaitable[T]]) -> None:
        flight.task = asyncio.current_task()
        try:
            result = await make()
            if not flight.result.done():
                flight.result.set_result(result)
        except asyncio.CancelledError:
            _fail(flight, _closing())
            raise
        except Exception as error:
            _fail(flight, error)
        finally:
            self._forget(key, flight)
            # The result holds the traceback of its error, and the traceback holds this frame: a cycle without this.
            del flight

    def _abandon(self, key: Hashable, flight: _Flight) -> None:
        # Forgotten before its task has ended: a new caller must not join a flight that is being cancelled.
        self._forget(key, flight)
        flight.result.cancel()
        if flight.task is not None:
            flight.task.cancel()

    def _forget(self, key: Hashable, flight: _Flight) -> None:
        if self._in_flight.get(key) is flight:
            del self._in_flight[key]


def _fail(flight: _Flight, error: Exception) -> None:
    if not flight.result.done():
        flight.result.set_exception(error)
        # asyncio logs an exception that nobody has read. All callers may have been cancelled in this very tick, so it
        # is read here once.
        flight.result.exception()


def _closing() -> Unavailable:
    return Unavailable("The server is closing", reason="drain", retry_after=1)
