"""The waiting room: who may wait, whose turn it is, who is refused, and when.

Rules, in the order in which they are asked:
  1. A ticket is a place, taken at once or refused at once. Its deadline starts there.
  2. Refused: while draining; when room and slots are taken (a lower class is put out first); when the predicted wait
     plus the render itself would not end before the deadline. Low-priority work may use half the room and half the
     time; a refresh behind a stale answer only gets what nobody else wants.
  3. Turns: by class, first come first served. Who left is no longer in the queue. Once the queue has been standing, the
     door lets in only what will wait for a quarter of the time, so that lasting overload does not make everybody late.
     Newest first, the usual cure, was tried (tests/test_admission_overload.py): as much was served, but up to 22 % of
     the refused had been let in first, and waited five seconds for nothing. Here they are refused at once.
  4. Decoded bytes have a budget of their own. Small work passes a large one that waits for memory, but not for ever.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Self

from annotated_types import Interval, doc

from imgserver.errors import DeadlineExceeded, Overloaded
from imgserver.rendering.cost import Cost, Pace
from imgserver.rendering.queue import Backlog, left_to_do
from imgserver.rendering.queue import Criticality as Criticality
from imgserver.runtime import resources

SHED_REASONS = ("full", "predicted_wait", "deadline", "memory", "drain")
RETRY_CAP_SECONDS = 30
RETRY_JITTER = 0.2
# One slot in ten is kept free for what the visitor is looking at.
RESERVE = 10
LOW_SHARE = 0.5
STANDING_SHARE = 0.25
# Of the deadline: a wait that a visitor bears, and still gets the picture as it should be.
BEARABLE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """The bounds of the admission queue."""

    max_waiting: Annotated[int, Interval(ge=1, le=100_000), doc("requests that may wait for a worker")] = 256
    deadline_seconds: Annotated[
        float,
        Interval(ge=0.1, le=600),
        doc("longest time from admission to the rendition; keep it below the CDN's origin time-out"),
    ] = 10.0
    max_decoded_bytes: Annotated[
        int,
        Interval(ge=0),
        doc("estimated memory of all images being decoded; 0: a quarter of the memory granted"),
    ] = 0
    degrade: Annotated[
        bool, doc("whether misses are rendered cheaper, in quicker formats, while the queue is long")
    ] = True
    standing_seconds: Annotated[
        float,
        Interval(ge=0.1, le=60),
        doc("how long waits may stay above one median render before only short predicted waits are admitted"),
    ] = 1.0


@dataclass(frozen=True, slots=True)
class AdmissionStatistics:
    waiting: int
    """Tickets without a slot: fetching their source, or queued."""
    waiting_by_class: Mapping[str, int]
    """The same, by lower-case name of the class."""
    running: int
    """Tickets inside a slot."""
    slots: int
    """Tickets that may be inside at once."""
    limit: int
    """Places in the waiting room."""
    predicted_wait_seconds: float
    """How long a normal ticket taken now would wait for its slot."""
    oldest_wait_seconds: float
    """Age of the oldest ticket that still waits; 0 when nobody does."""
    decoded_bytes_in_flight: int
    """Estimated bytes of pixels held by running renders."""
    decoded_bytes_limit: int
    """The budget of the above."""
    shed: Mapping[str, int]
    """Refusals since the start, by those of SHED_REASONS that occurred."""
    admitted: int
    """Tickets given since the start."""
    standing: bool
    """Whether the queue has not been short for a while; only short waits are let in then."""
    draining: bool
    """Whether every new ticket is refused."""


class Ticket:
    """A place in the waiting room. `with ticket:` leaves it whatever happens; leaving twice does no harm."""

    def __init__(self, admission: "Admission", *, criticality: Criticality, entered: float, deadline: float) -> None:
        self._admission = admission
        self.criticality = criticality
        self.entered = entered
        self.deadline = deadline
        """When the picture must be finished: absolute seconds of the admission's monotonic clock."""
        self.cost: Cost | None = None
        self.asked: float | None = None
        self.number = 0  # in the order of asking; clocks may stand still between two
        self.started: float | None = None
        self.short_of_memory = False
        self.turn: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.leave(self)

    @property
    def waited_seconds(self) -> float:
        """From asking for a slot until it was given, or until now; 0 before asking."""
        return self._admission.waited(self)

    @contextlib.asynccontextmanager
    async def slot(self, cost: Cost) -> AsyncIterator[None]:
        """Waits its turn, at most until the deadline, and holds a slot inside the block.

        Raises Overloaded (predicted_wait; deadline or memory when it waited in vain; full when put out by a higher
        class), DeadlineExceeded when the deadline had passed before a slot was even asked for.
        """
        await self._admission.turn(self, cost)
        try:
            yield
        finally:
            self._admission.end(self)


class Admission:
    """The room and its slots. State and decisions only: no I/O, one clock; use from one event loop."""

    def __init__(self, settings: AdmissionSettings, *, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._slots = slots
        self._clock = clock
        self._budget = settings.max_decoded_bytes or resources.memory_bytes() // 4
        self._backlog = Backlog[Ticket]()
        self._shed: Counter[str] = Counter()
        self._admitted = 0
        self._draining = False
        self._pace = Pace()
        self._relaxed_at = clock()
        self._numbers = itertools.count(1)
        self._jitter = random.SystemRandom()

    def __repr__(self) -> str:
        state = " draining" * self._draining + " standing" * self._is_standing(self._clock())
        running = len(self._backlog.running)
        waiting = f"waiting {len(self._backlog) - running}/{self._settings.max_waiting}"
        return f"<Admission{state} {waiting}, running {running}/{self._slots}, shed {self._shed.total()}>"

    def check_capacity(self, criticality: Criticality = Criticality.NORMAL) -> None:
        """Raises what `enter` would raise now, and takes no place: before work that would be done for nothing."""
        reason = self._reason_to_refuse(criticality)
        if reason == "full" and self._lower_than(criticality) is not None:
            return
        if reason is not None:
            raise self._refusal(reason)

    def enter(self, criticality: Criticality = Criticality.NORMAL, *, began: float | None = None) -> Ticket:
        """A ticket, at once. Raises Overloaded with `reason` (full, predicted_wait, drain) and `retry_after`.

        `began`: when its deadline started (of the admission's clock), for what has waited elsewhere before.
        """
        reason = self._reason_to_refuse(criticality)
        if reason == "full" and self._put_out_below(criticality):
            reason = None
        if reason is not None:
            raise self._refusal(reason)
        now = self._clock()
        deadline = (now if began is None else began) + self._settings.deadline_seconds
        ticket = Ticket(self, criticality=criticality, entered=now, deadline=deadline)
        self._backlog.enter(ticket)
        self._admitted += 1
        return ticket

    def pressure(self, criticality: Criticality) -> float:
        """What a newcomer would wait, as a share of a bearable wait; 0 where pictures are never made cheaper."""
        return (
            self.predicted_wait(criticality) / (BEARABLE_SHARE * self.deadline_seconds)
            if self._settings.degrade
            else 0.0
        )

    @property
    def deadline_seconds(self) -> float:
        return self._settings.deadline_seconds

    def drain(self) -> None:
        """From now on every new ticket is refused; those given are served."""
        self._draining = True

    def statistics(self) -> AdmissionStatistics:
        now = self._clock()
        waiting = [*self._backlog.fetching, *self._backlog.queued]
        classes = Counter(ticket.criticality.name.lower() for ticket in waiting)
        return AdmissionStatistics(
            waiting=len(waiting),
            waiting_by_class=MappingProxyType({kind.name.lower(): classes[kind.name.lower()] for kind in Criticality}),
            running=len(self._backlog.running),
            slots=self._slots,
            limit=self._settings.max_waiting,
            predicted_wait_seconds=self.predicted_wait(),
            oldest_wait_seconds=max((now - ticket.entered for ticket in waiting), default=0.0),
            decoded_bytes_in_flight=self._bytes_in_flight(),
            decoded_bytes_limit=self._budget,
            shed=MappingProxyType(dict(self._shed)),
            admitted=self._admitted,
            standing=self._is_standing(now),
            draining=self._draining,
        )

    def predicted_wait(self, criticality: Criticality = Criticality.NORMAL, *, before: Ticket | None = None) -> float:
        """Seconds a ticket of this class would wait: cost ahead / (slots x measured rate); 0 while a slot is free.

        `before`: count only what is ahead of this ticket.
        """
        now = self._clock()
        if before is None:
            count, seconds = self._backlog.ahead(criticality, self._pace, now)
        else:
            count, seconds = self._ahead_of(before, now)
        return seconds / self._slots if count >= self._slots else 0.0

    def _ahead_of(self, ticket: Ticket, now: float) -> tuple[int, float]:
        running = self._backlog.running
        ahead = [*running, *(other for other in self._backlog.queued if _precedes(other, ticket))]
        return len(ahead), sum(left_to_do(other, self._pace, now) for other in ahead)

    def waited(self, ticket: Ticket) -> float:
        if ticket.asked is None:
            return 0.0
        return (self._clock() if ticket.started is None else ticket.started) - ticket.asked

    async def turn(self, ticket: Ticket, cost: Cost) -> None:
        """Returns when the ticket holds a slot. For `Ticket.slot`, as are `end` and `leave`."""
        left = ticket.deadline - self._clock()
        if left <= 0:
            raise DeadlineExceeded("Fetching the source took all the time there was")
        ticket.cost, ticket.asked, ticket.number = cost, self._clock(), next(self._numbers)
        self._backlog.ask(ticket)
        wait = self.predicted_wait(ticket.criticality, before=ticket)
        if wait > 0 and wait + self._pace.seconds(cost) > left:
            self.leave(ticket)
            raise self._refusal("predicted_wait")
        ticket.turn = asyncio.get_running_loop().create_future()
        self._dispatch()
        try:
            async with asyncio.timeout(left):
                await ticket.turn
        except TimeoutError:
            self.leave(ticket)
            raise self._refusal("memory" if ticket.short_of_memory else "deadline") from None
        except BaseException:
            self.leave(ticket)
            raise

    def end(self, ticket: Ticket) -> None:
        if ticket.started is not None and ticket.cost is not None:
            self._pace.learn(held_seconds=self._clock() - ticket.started, cost=ticket.cost)
        self.leave(ticket)

    def leave(self, ticket: Ticket) -> None:
        if self._backlog.leave(ticket):
            self._dispatch()

    # Decisions

    def _reason_to_refuse(self, criticality: Criticality) -> str | None:
        if self._draining:
            return "drain"
        if criticality is Criticality.REFRESH:
            return "full" if len(self._backlog) >= self._slots else None
        share = LOW_SHARE if criticality in (Criticality.LOW, Criticality.BATCH) else 1.0
        if len(self._backlog) >= self._slots + self._settings.max_waiting * share:
            return "full"
        share *= STANDING_SHARE if self._is_standing(self._clock()) else 1.0
        wait = self.predicted_wait(criticality)
        # While a slot is free nobody is refused for the cost: an estimate that is never tried is never corrected.
        if wait > 0 and wait + self._pace.typical_seconds() > self._settings.deadline_seconds * share:
            return "predicted_wait"
        return None

    def _put_out_below(self, criticality: Criticality) -> bool:
        """Lets go the newest queued ticket of the lowest class, if that is lower than this one."""
        victim = self._lower_than(criticality)
        if victim is None:
            return False
        self._let_go(victim, "full")
        return True

    def _lower_than(self, criticality: Criticality) -> Ticket | None:
        newest = max(self._queued(), key=lambda ticket: (ticket.criticality, ticket.number), default=None)
        return newest if newest is not None and newest.criticality > criticality else None

    def _dispatch(self) -> None:
        """Gives free slots to those whose turn it is. Called at every change."""
        now = self._clock()
        self._note_relief(now)
        self._let_hopeless_go(now)
        for ticket in self._in_turn(now):
            if len(self._backlog.running) >= self._open_to(ticket.criticality):
                return
            if self._fits(ticket):
                self._start(ticket, now)
            elif self._is_overdue(ticket, now):
                return

    def _start(self, ticket: Ticket, now: float) -> None:
        ticket.started, ticket.short_of_memory = now, False
        self._backlog.start(ticket)
        assert ticket.turn is not None
        ticket.turn.set_result(None)

    def _in_turn(self, now: float) -> list[Ticket]:
        return sorted(self._queued(), key=lambda it: (not self._is_overdue(it, now), it.criticality, it.number))

    def _open_to(self, criticality: Criticality) -> int:
        return self._slots - (0 if criticality is Criticality.URGENT else self._slots // RESERVE)

    def _fits(self, ticket: Ticket) -> bool:
        """Within the budget of decoded bytes; what exceeds all of it runs alone."""
        assert ticket.cost is not None
        in_flight = self._bytes_in_flight()
        ticket.short_of_memory = in_flight > 0 and in_flight + ticket.cost.decoded_bytes > self._budget
        return not ticket.short_of_memory

    def _is_overdue(self, ticket: Ticket, now: float) -> bool:
        """It waited for memory long enough: nobody passes it any more, so that renders end and memory comes free."""
        return ticket.short_of_memory and now - (ticket.asked or now) > self._settings.deadline_seconds / 4

    def _let_hopeless_go(self, now: float) -> None:
        """Who waited until there is not enough time left for its own cost would only be killed in its slot."""
        for ticket in self._queued():
            assert ticket.cost is not None
            if now > (ticket.asked or now) and ticket.deadline - now < self._pace.seconds(ticket.cost):
                self._let_go(ticket, "memory" if ticket.short_of_memory else "deadline")

    def _let_go(self, ticket: Ticket, reason: str) -> None:
        self._backlog.leave(ticket)
        if ticket.turn is not None:
            ticket.turn.set_exception(self._refusal(reason))
            ticket.turn.exception()  # its owner may be leaving in this very tick, and never read it

    def _is_standing(self, now: float) -> bool:
        return now - self._relaxed_at > self._settings.standing_seconds and bool(self._backlog.queued)

    def _note_relief(self, now: float) -> None:
        """The queue is no standing one as long as its oldest entry has waited no longer than a median render."""
        target = self._pace.median_seconds()
        if all(now - (ticket.asked or now) <= target for ticket in self._queued()):
            self._relaxed_at = now

    def _refusal(self, reason: str) -> Overloaded:
        self._shed[reason] += 1
        wait = max(1.0, self.predicted_wait()) * self._jitter.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)
        return Overloaded(reason=reason, retry_after=max(1, min(RETRY_CAP_SECONDS, round(wait))))

    # Sums over the tickets

    def _queued(self) -> list[Ticket]:
        """Without those that are leaving in this very tick."""
        return [ticket for ticket in self._backlog.queued if ticket.turn and not ticket.turn.done()]

    def _bytes_in_flight(self) -> int:
        return sum(ticket.cost.decoded_bytes for ticket in self._backlog.running if ticket.cost)


def _precedes(ticket: Ticket, other: Ticket) -> bool:
    """Whether a waiting ticket is ahead of another in the queue; who is still fetching is not."""
    return ticket.asked is not None and (ticket.criticality, ticket.number) < (other.criticality, other.number)
