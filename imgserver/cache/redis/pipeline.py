"""Pipelined connections: the few connections to Redis that all reads share.

Redis replies in the order of the commands, so a request needs no connection of its own, and a request that is cancelled
breaks none. Measured with `make bench ONLY=redis_clients`: hits of 60 kB, CPU ms per hit of this process at concurrency
1 / 16 / 256:

    this module (with time-outs, circuit breaker, bounded queue)   0.042 / 0.022 / 0.032
    redis.asyncio, a pool of 16 connections                        0.106 / 0.065 / 0.070
    valkey-glide                                                   0.119 / 0.046 / 0.075
    coredis                                                        0.162 / 0.153 / 0.186

A library that stays within 1.5 times of these figures, and of the throughput and the median at concurrency 1, may
replace this module; docs/benchmarks.md has the whole table.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from types import TracebackType
from typing import Any, NamedTuple, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError

from imgserver.cache.redis.endpoint import Command, Endpoint

# A large reply delays those behind it on its connection; they can use another one.
MAX_CONNECTIONS = 2
# A further connection is opened when the best one has so many pending requests.
BUSY_REQUESTS = 8
# A connection takes so many requests; others wait in this process. Redis holds every reply in its own memory until it
# is read, and would evict records to make space for replies.
MAX_PENDING = 16
CONNECT_SECONDS = 1.0
# The pause after a failure to open a connection.
RETRY_SECONDS = 1.0
# Time-outs are counted in ticks of the event loop, so many per time-out. A tick that comes late counts once: the delay
# is this process' own, and the reply may already be in the socket. That much delay is tolerated, in time-outs.
TICKS = 10
TOLERATED_TIMEOUTS = 4.0

_NO_REPLY = object()
# Its stub knows commands of one word only.
_pack = cast(Callable[[Command], bytes], hiredis.pack_command)


class ConnectionLost(RedisConnectionError):
    """The connection has ended. All its pending requests fail with one exception, which is one fault; `counted`: it was
    counted already."""

    counted = False


class Reply(NamedTuple):
    """A value per command, an error for one that failed; and the seconds that Redis took."""

    values: list[Any]
    seconds: float


@dataclass(slots=True, eq=False)
class _Request:
    replied: "asyncio.Future[Reply]"
    commands: int
    begun: float
    tick: int


class PipelinedConnection(asyncio.Protocol):
    """One connection. `seconds` is the time-out of a request, for all its replies.

    A request that times out fails with TimeoutError, and the connection accepts no further one: replies behind it would
    be late, too. Then `on_close` is called. The connection ends with the last pending request; then `closed` is done.
    `on_reply` is called after each request that was answered.
    """

    def __init__(
        self,
        seconds: float,
        *,
        on_reply: Callable[[], None] = lambda: None,
        on_close: "Callable[[PipelinedConnection], None]" = lambda _: None,
    ) -> None:
        self._seconds = seconds
        self._on_reply = on_reply
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NO_REPLY)
        self._requests: deque[_Request] = deque()
        self._values: list[Any] = []
        self._transport: asyncio.Transport | None = None
        self._ticks = 0
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_open = False
        self.closed = self._loop.create_future()

    @property
    def pending(self) -> int:
        """The number of requests without a reply, cancelled ones included."""
        return len(self._requests)

    def execute(self, *commands: Command) -> "asyncio.Future[Reply]":
        """Sends the commands immediately. The future fails with TimeoutError, or with the error that ended the
        connection. A caller that no longer wants the reply cancels it."""
        packed = b"".join(map(_pack, commands))
        request = _Request(self._loop.create_future(), len(commands), time.monotonic(), self._ticks)
        if self._transport is None or self._error is not None:
            request.replied.set_exception(self._error or ConnectionLost("There is no connection to Redis"))
            return request.replied
        self._requests.append(request)
        self._transport.write(packed)
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds / TICKS, self._on_tick)
        return request.replied

    def close(self) -> None:
        self._stop_accepting()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (value := self._reader.gets()) is not _NO_REPLY:
                if not isinstance(value, hiredis.PushNotification):
                    self._receive(value)
        except hiredis.ProtocolError as error:
            self._abort(ConnectionLost(f"This is not Redis: {error}"))
        except (hiredis.ReplyError, ConnectionLost) as error:
            self._abort(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_accepting()
        self._fail(ConnectionLost(f"Redis has closed the connection{f': {exc}' if exc else ''}"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.closed.set_result(None)

    def _receive(self, value: Any) -> None:
        if not self._requests:
            unexpected = ConnectionLost(f"Redis sent a reply without a request: {value!s:.80}")
            raise value if isinstance(value, hiredis.ReplyError) else unexpected
        request = self._requests[0]
        self._values.append(value)
        if len(self._values) < request.commands:
            return
        values, self._values = self._values, []
        self._requests.popleft()
        if not request.replied.done():
            request.replied.set_result(Reply(values, self._elapsed(request)))
        self._on_reply()

    def _elapsed(self, request: _Request) -> float:
        """The seconds since the request was sent, without the event loop's own delay."""
        ticks = self._ticks - request.tick + 1
        return min(time.monotonic() - request.begun, ticks * self._seconds / TICKS)

    def _on_tick(self) -> None:
        self._ticks += 1
        for request in self._requests:
            if not self._is_overdue(request):
                break
            self._stop_accepting()
            if not request.replied.done():
                request.replied.set_exception(TimeoutError("Redis has not replied in time"))
        if not self.is_open and all(request.replied.done() for request in self._requests):
            self.close()
        is_waiting = self._requests and self._transport is not None
        self._timer = self._loop.call_later(self._seconds / TICKS, self._on_tick) if is_waiting else None

    def _is_overdue(self, request: _Request) -> bool:
        if self._ticks - request.tick >= TICKS:
            return True
        return time.monotonic() - request.begun > (1 + TOLERATED_TIMEOUTS) * self._seconds

    def _stop_accepting(self) -> None:
        if self.is_open:
            self.is_open = False
            self._on_close(self)

    def _abort(self, error: Exception) -> None:
        self._fail(error)
        self.close()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        for request in self._requests:
            if not request.replied.done():
                request.replied.set_exception(error)
        self._requests.clear()
        self._values = []


_pending = attrgetter("pending")


class PipelinedPool:
    """The pipelined connections to one Redis, opened when they are needed."""

    def __init__(self, endpoint: Endpoint, *, seconds: float) -> None:
        self._endpoint = endpoint
        self._seconds = seconds
        # Those that accept requests, and all that have not ended yet.
        self._open: list[PipelinedConnection] = []
        self._all: set[PipelinedConnection] = set()
        self._opening: asyncio.Task[PipelinedConnection] | None = None
        self._not_before = float("-inf")
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def available(self) -> PipelinedConnection | None:
        """The connection with the fewest pending requests, if it accepts one and no earlier request waits."""
        return None if self._waiters else self._least_busy()

    async def wait_available(self) -> PipelinedConnection:
        """Waits, first come first served, for a connection that accepts a request. A connection that is being opened
        for a caller outlives the time-out of that caller.

        Raises OSError, RedisError or HiredisError if no connection can be opened.
        """
        connection = self.available()
        while connection is None:
            if self._open:
                await self._wait()
            else:
                await asyncio.shield(self._begin_opening())
            connection = self._least_busy()
        return connection

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        connections = tuple(self._all)
        for connection in connections:
            connection.close()
        if connections:
            await asyncio.wait([connection.closed for connection in connections], timeout=CONNECT_SECONDS)

    def _least_busy(self) -> PipelinedConnection | None:
        if not self._open:
            return None
        connection = min(self._open, key=_pending)
        is_busy = connection.pending >= BUSY_REQUESTS
        if is_busy and len(self._open) < MAX_CONNECTIONS and time.monotonic() >= self._not_before:
            self._begin_opening()
        return connection if connection.pending < MAX_PENDING else None

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            else:
                self._wake_next()
            raise

    def _wake_next(self) -> None:
        if self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _wake_all(self) -> None:
        while self._waiters:
            self._wake_next()

    def _begin_opening(self) -> "asyncio.Task[PipelinedConnection]":
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_one(), name="redis connection")
            self._opening.add_done_callback(self._on_opened)
        return self._opening

    def _on_opened(self, opening: "asyncio.Task[PipelinedConnection]") -> None:
        self._opening = None
        # Reads the exception: without a waiter, asyncio would report it as never retrieved.
        if opening.cancelled() or opening.exception() is not None:
            self._not_before = time.monotonic() + RETRY_SECONDS
        self._wake_all()

    async def _open_one(self) -> PipelinedConnection:
        connection = PipelinedConnection(self._seconds, on_reply=self._wake_next, on_close=self._on_closed)
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._connect(connection)
            try:
                await self._shake_hands(connection)
            except BaseException:
                connection.close()
                raise
        self._open.append(connection)
        return connection

    async def _connect(self, connection: PipelinedConnection) -> None:
        loop, to = asyncio.get_running_loop(), self._endpoint
        if to.path:
            await loop.create_unix_connection(lambda: connection, to.path)
        else:
            await loop.create_connection(lambda: connection, to.host, to.port, ssl=to.tls)
        self._all.add(connection)
        connection.closed.add_done_callback(lambda _: self._all.discard(connection))

    async def _shake_hands(self, connection: PipelinedConnection) -> None:
        reply = await connection.execute(*self._endpoint.handshake)
        for value in reply.values:
            if isinstance(value, Exception):
                raise value
        if not connection.is_open:
            raise ConnectionLost("Redis has closed the connection")

    def _on_closed(self, connection: PipelinedConnection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._wake_all()


class LagTolerantTimeout:
    """Like `asyncio.timeout(seconds)`, but the event loop's own delay does not count.

    In a burst a reply waits in the socket while the event loop does other work for longer than a short time-out. uvloop
    counts a timer from the beginning of the loop iteration that sets it, so the timer may expire before anybody waited,
    and it runs timers before it reads sockets: asyncio.timeout would give up on a reply that has arrived.
    """

    CHECKS_PER_TIMEOUT = 4

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._delay = 0.0

    async def __aenter__(self) -> "LagTolerantTimeout":
        await self._timeout.__aenter__()
        self._begun = time.monotonic()
        self._schedule_check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def elapsed(self) -> float:
        """The seconds since the beginning, without the event loop's delay."""
        now = time.monotonic()
        return now - self._begun - self._delay - max(0.0, now - self._due)

    def _schedule_check(self) -> None:
        pause = self._seconds / self.CHECKS_PER_TIMEOUT
        self._due = time.monotonic() + pause
        self._timer = asyncio.get_running_loop().call_later(pause, self._check)

    def _check(self) -> None:
        elapsed = self.elapsed()
        self._delay = time.monotonic() - self._begun - elapsed
        if elapsed < self._seconds and self._delay <= TOLERATED_TIMEOUTS * self._seconds:
            self._schedule_check()
        else:
            self._timeout.reschedule(asyncio.get_running_loop().time())
