"""PipelinedPool: the few connections to Redis on which everybody's look-ups go, one behind the other.

Replies come in the order of the commands, so who asks needs no connection of its own, and who leaves breaks none. With
one per look-up, as the client library has it, a look-up takes five times the CPU.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import TracebackType
from typing import Any, NamedTuple, cast

import hiredis
from redis.exceptions import ConnectionError as Disconnected

Command = tuple[str | bytes | int, ...]

# A large reply holds up those behind it, and they may go by the other one.
LANES = 2
# With so many questions before it, one may have another lane opened.
CROWD = 8
# So many wait in a lane at most, the others on this side: Redis keeps every reply in its own memory until it is taken,
# and would throw out records for it.
PLACES = 16
CONNECT_SECONDS = 1.0
# After a failure to open another lane beside one that works.
RETRY_SECONDS = 1.0
# Time is counted in looks of the event loop, so many to a time-out: one that comes late counts once, for what the loop
# is late by is not Redis' fault, and its answer may lie in the socket already. That much lateness is forgiven, in
# time-outs, and no more.
LOOKS = 10
FORGIVEN = 4.0

_NOTHING = object()
# Its stub knows of commands of one word only.
_pack = cast(Callable[[Command], bytes], hiredis.pack_command)


class ConnectionLost(Disconnected):
    """The connection has ended: one fault, however many questions it takes along. `told`: it was counted."""

    told = False


class Answer(NamedTuple):
    """A reply per command, an error in the place of each that failed; and the seconds that Redis took for them."""

    replies: list[Any]
    seconds: float


@dataclass(slots=True, eq=False)
class _Question:
    answered: "asyncio.Future[Answer]"
    wanted: int
    begun: float
    look: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where lanes lead (a `path` is a Unix socket's), and what is said first there."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    tls: ssl.SSLContext | None = None
    greeting: tuple[Command, ...] = (("HELLO", 3),)

    @classmethod
    def of(cls, address: Mapping[str, Any]) -> "Endpoint":
        """From `address_of`."""
        context = address.get("context")
        return cls(
            host=address.get("host", "localhost"),
            port=address.get("port", 6379),
            path=address.get("path", ""),
            tls=context.get() if context is not None else None,
            greeting=_greeting(address),
        )


def _greeting(address: Mapping[str, Any]) -> tuple[Command, ...]:
    hello: Command = ("HELLO", 3)
    if password := address.get("password"):
        hello = (*hello, "AUTH", address.get("username") or "default", password)
    if database := address.get("db"):
        return hello, ("SELECT", database)
    return (hello,)


class PipelinedConnection(asyncio.Protocol):
    """One connection. `seconds` is how long a question may wait for all its replies.

    When one has waited longer it fails with TimeoutError, and the lane takes no other from then on: its replies would
    be late, too. `on_close` is told; the connection ends with the last of those who still wait, and `gone` is done.
    """

    def __init__(
        self,
        seconds: float,
        *,
        on_answer: Callable[[], None] = lambda: None,
        on_close: "Callable[[PipelinedConnection], None]" = lambda _: None,
    ) -> None:
        self._seconds = seconds
        self._on_answer = on_answer
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._questions: deque[_Question] = deque()
        self._replies: list[Any] = []
        self._wire: asyncio.Transport | None = None
        self._looks = 0
        self._end: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_open = False
        self.gone = self._loop.create_future()

    @property
    def waiting(self) -> int:
        """How many questions wait, whether anybody still wants to know or not."""
        return len(self._questions)

    def ask(self, *commands: Command) -> "asyncio.Future[Answer]":
        """Sent at once. Fails with TimeoutError, or with what has ended the lane; who no longer wants to know cancels
        it."""
        packed = b"".join(map(_pack, commands))
        question = _Question(self._loop.create_future(), len(commands), time.monotonic(), self._looks)
        if self._wire is None or self._end is not None:
            question.answered.set_exception(self._end or ConnectionLost("There is no connection to Redis"))
            return question.answered
        self._questions.append(question)
        self._wire.write(packed)
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds / LOOKS, self._look)
        return question.answered

    def close(self) -> None:
        self._stop()
        if self._wire is not None:
            self._wire.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                if not isinstance(reply, hiredis.PushNotification):
                    self._take(reply)
        except hiredis.ProtocolError as error:
            self._give_up(ConnectionLost(f"This is no Redis: {error}"))
        except (hiredis.ReplyError, ConnectionLost) as error:
            self._give_up(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire = None
        self._stop()
        self._fail(ConnectionLost(f"Redis has closed the connection{f': {exc}' if exc else ''}"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.gone.set_result(None)

    def _take(self, reply: Any) -> None:
        if not self._questions:
            raise (
                reply
                if isinstance(reply, hiredis.ReplyError)
                else ConnectionLost(f"Redis said, unasked: {reply!s:.80}")
            )
        question = self._questions[0]
        self._replies.append(reply)
        if len(self._replies) < question.wanted:
            return
        replies, self._replies = self._replies, []
        self._questions.popleft()
        if not question.answered.done():
            question.answered.set_result(Answer(replies, self._taken(question)))
        self._on_answer()

    def _taken(self, question: _Question) -> float:
        """The seconds since it was asked, without those that the loop was late by."""
        looks = self._looks - question.look + 1
        return min(time.monotonic() - question.begun, looks * self._seconds / LOOKS)

    def _look(self) -> None:
        self._looks += 1
        for question in self._questions:
            if not self._is_overdue(question):
                break
            self._stop()
            if not question.answered.done():
                question.answered.set_exception(TimeoutError("Redis has not answered in time"))
        if not self.is_open and all(question.answered.done() for question in self._questions):
            self.close()
        waiting = self._questions and self._wire is not None
        self._timer = self._loop.call_later(self._seconds / LOOKS, self._look) if waiting else None

    def _is_overdue(self, question: _Question) -> bool:
        if self._looks - question.look >= LOOKS:
            return True
        return time.monotonic() - question.begun > (1 + FORGIVEN) * self._seconds

    def _stop(self) -> None:
        if self.is_open:
            self.is_open = False
            self._on_close(self)

    def _give_up(self, error: Exception) -> None:
        self._fail(error)
        self.close()

    def _fail(self, error: Exception) -> None:
        self._end = self._end or error
        for question in self._questions:
            if not question.answered.done():
                question.answered.set_exception(error)
        self._questions.clear()
        self._replies = []


_waiting = attrgetter("waiting")


class PipelinedPool:
    """The lanes to one Redis, opened when somebody asks."""

    def __init__(self, endpoint: Endpoint, *, seconds: float) -> None:
        self._endpoint = endpoint
        self._seconds = seconds
        self._open: list[PipelinedConnection] = []
        self._living: set[PipelinedConnection] = set()
        self._opening: asyncio.Task[PipelinedConnection] | None = None
        self._not_before = float("-inf")
        self._queue: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def free(self) -> PipelinedConnection | None:
        """An open one with a place for who comes now, the one with the fewest questions."""
        return None if self._queue else self._roomy()

    async def opened(self) -> PipelinedConnection:
        """The same, once there is one: a new one, which outlives the patience of who waits for it here, or one that
        others leave.

        OSError, RedisError, HiredisError: there is no way to Redis.
        """
        lane = self.free()
        while lane is None:
            if self._open:
                await self._turn()
            else:
                await asyncio.shield(self._begin())
            lane = self._roomy()
        return lane

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        living = tuple(self._living)
        for lane in living:
            lane.close()
        if living:
            await asyncio.wait([lane.gone for lane in living], timeout=CONNECT_SECONDS)

    def _roomy(self) -> PipelinedConnection | None:
        if not self._open:
            return None
        lane = min(self._open, key=_waiting)
        if lane.waiting >= CROWD and len(self._open) < LANES and time.monotonic() >= self._not_before:
            self._begin()
        return lane if lane.waiting < PLACES else None

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._queue:
                self._queue.remove(turn)
            else:
                self._call_next()
            raise

    def _call_next(self) -> None:
        if self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)

    def _call_all(self) -> None:
        while self._queue:
            self._call_next()

    def _begin(self) -> "asyncio.Task[PipelinedConnection]":
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_one(), name="redis lane")
            self._opening.add_done_callback(self._begun)
        return self._opening

    def _begun(self, opening: "asyncio.Task[PipelinedConnection]") -> None:
        self._opening = None
        # Read, because where nobody waited for it a failure is reported as never retrieved.
        if opening.cancelled() or opening.exception() is not None:
            self._not_before = time.monotonic() + RETRY_SECONDS
        self._call_all()

    async def _open_one(self) -> PipelinedConnection:
        lane = PipelinedConnection(self._seconds, on_answer=self._call_next, on_close=self._closed)
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._connect(lane)
            try:
                await self._greet(lane)
            except BaseException:
                lane.close()
                raise
        self._open.append(lane)
        return lane

    async def _connect(self, lane: PipelinedConnection) -> None:
        loop, to = asyncio.get_running_loop(), self._endpoint
        if to.path:
            await loop.create_unix_connection(lambda: lane, to.path)
        else:
            await loop.create_connection(lambda: lane, to.host, to.port, ssl=to.tls)
        self._living.add(lane)
        lane.gone.add_done_callback(lambda _: self._living.discard(lane))

    async def _greet(self, lane: PipelinedConnection) -> None:
        answer = await lane.ask(*self._endpoint.greeting)
        for reply in answer.replies:
            if isinstance(reply, Exception):
                raise reply
        if not lane.is_open:
            raise ConnectionLost("Redis has closed the connection")

    def _closed(self, lane: PipelinedConnection) -> None:
        if lane in self._open:
            self._open.remove(lane)
            self._call_all()


# How long others may take. What this process is late by itself does not count against them.
#
# In a burst an answer lies in the socket while the event loop is at other work for longer than a short time-out; and
# uvloop counts a timer from the beginning of the turn in which it is set, so that it may be over before anybody waited.
# Timers are seen before sockets: asyncio.timeout would give up on an answer that is there.

# How often the loop's own lateness is looked at, and how much of it is forgiven, in shares of the time allowed.
CHECKS_PER_TIMEOUT = 4
FORGIVEN_TIMEOUTS = 4.0


class LagTolerantTimeout:
    """As `asyncio.timeout(seconds)`, but TimeoutError only once the loop has listened for so long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._late = 0.0

    async def __aenter__(self) -> "LagTolerantTimeout":
        await self._limit.__aenter__()
        self._begun = time.monotonic()
        self._wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def listened(self) -> float:
        """The seconds since the beginning without those in which the loop was late."""
        now = time.monotonic()
        return now - self._begun - self._late - max(0.0, now - self._due)

    def _wait(self) -> None:
        pause = self._seconds / CHECKS_PER_TIMEOUT
        self._due = time.monotonic() + pause
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        listened = self.listened()
        self._late = time.monotonic() - self._begun - listened
        if listened < self._seconds and self._late <= FORGIVEN_TIMEOUTS * self._seconds:
            self._wait()
        else:
            self._limit.reschedule(asyncio.get_running_loop().time())
