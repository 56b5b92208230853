"""Admission to the render queue: which requests get a place, which are refused, and whose turn it is.

Rules, in the order in which they apply:
  1. A ticket is a place in the queue, granted or refused at once. Its deadline starts there.
  2. A request is refused while the server drains; when all workers are taken and the queue is full; and when it would
     end after the deadline because of the requests ahead of it. Its own estimated cost counts for half of its time at
     most: an estimate that refuses is never corrected. BATCH requests may use half of the queue and half of the
     deadline. A REFRESH is admitted only while fewer tickets than workers exist.
  3. Clients share the workers fairly, by cost (`queue.py`). What is ahead of a request is its client's own work, and as
     much of each other client. When something must be refused, background work is refused first, then a lower class of
     the same client, and then the newest request of the client that holds most.
  4. Turns are by class, and first come, first served within a class of a client. A client that disconnects frees its
     place. Once the queue is a standing queue, the newest request of a client is served first, as long as its oldest
     one can still be served in time after all others: most visitors then wait for a short time, and none in vain.
  5. Once predicted waits have exceeded the deadline for a second, waits up to half of it are admitted, until most of
     the queue is worked off. A queue as long as the deadline would delay all requests for as long again after the
     overload has ended, because an admitted request is not refused later.
  6. Decoded bytes have a budget. Small renders overtake a large one that waits for memory, but not forever.

A slot is a free worker of the pool. The pool has no queue: this is the only place where a render waits for a worker.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import MappingProxyType

from imgserver.errors import DeadlineExceeded, ImgserverError, Overloaded
from imgserver.rendering.admission_settings import AdmissionSettings as AdmissionSettings
from imgserver.rendering.admission_statistics import AdmissionStatistics
from imgserver.rendering.cost import Cost, ServiceRate
from imgserver.rendering.eviction import Eviction
from imgserver.rendering.load_state import LoadState
from imgserver.rendering.queue import Criticality as Criticality
from imgserver.rendering.queue import RenderQueue
from imgserver.rendering.ticket import Ticket as Ticket
from imgserver.rendering.worker_pool import WorkerPool
from imgserver.rendering.worker_process import WorkerProcess
from imgserver.runtime import resources

RETRY_CAP_SECONDS = 30
RETRY_JITTER = 0.2
# One worker in ten is reserved for URGENT requests.
RESERVE = 10
ALL_CLASSES = tuple(Criticality)
BATCH_SHARE = 0.5
# The share of its time that the estimated cost of a request may claim.
OWN_SHARE = 0.5
# The share of the deadline that waits may reach during an overload.
OVERLOAD_SHARE = 0.5
# How much longer than predicted a wait may become, once requests are refused.
WAIT_MARGIN = 1.1
# By how much the time of the oldest request must exceed the predicted wait before a newer request overtakes it.
OVERTAKE_MARGIN = 1.5
# The share of the deadline that a visitor may wait before renditions are degraded.
BEARABLE_SHARE = 0.25
# The share of the deadline that a ticket waits for memory before no other ticket overtakes it.
OVERTAKE_SHARE = 0.25


class Admission:
    """The scheduler of one worker pool. State and decisions only: no I/O, one clock; use from one event loop."""

    def __init__(
        self, settings: AdmissionSettings, *, pool: WorkerPool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._clock = clock
        self._budget = settings.max_decoded_bytes or resources.memory_bytes() // 4
        self._queue = RenderQueue[Ticket]()
        self._shed: Counter[str] = Counter()
        self._admitted = 0
        self._draining = False
        self._rate = ServiceRate()
        self._eviction = Eviction(self._queue, self._rate)
        self._load = LoadState(settings, now=clock())
        self._jitter = random.SystemRandom()
        pool.subscribe(self._pool_changed)

    def __repr__(self) -> str:
        state = " draining" * self._draining + " standing" * self._is_standing(self._clock())
        running = len(self._queue.running)
        waiting = f"waiting {len(self._queue) - running}/{self._settings.max_waiting}"
        return f"<Admission{state} {waiting}, running {running}/{self._pool.count}, shed {self._shed.total()}>"

    def check_capacity(self, criticality: Criticality = Criticality.NORMAL, *, client: str = "") -> None:
        """Raises what `enter` would raise now, but takes no place. Call it before work that a refusal would waste."""
        reason = self._reason_to_refuse(criticality, client)
        if reason is not None and (reason != "full" or self._eviction.lesser(criticality, client) is None):
            raise self._refusal(reason, criticality)

    def enter(
        self, criticality: Criticality = Criticality.NORMAL, *, client: str = "", began: float | None = None
    ) -> Ticket:
        """Returns a ticket at once, or raises Overloaded with `reason` (full, predicted_wait, drain) and `retry_after`.

        `client`: whose share of the workers the render counts against. `began`: when the deadline started, in seconds
        of the admission's clock, for a request that has waited before.
        """
        reason = self._reason_to_refuse(criticality, client)
        if reason == "full" and (lesser := self._eviction.lesser(criticality, client)) is not None:
            self._let_go(lesser, lambda: self._refusal("full", lesser.criticality))
            reason = None
        if reason is not None:
            raise self._refusal(reason, criticality)
        now = self._clock()
        deadline = (now if began is None else began) + self._settings.deadline_seconds
        ticket = Ticket(self, criticality=criticality, client=client, entered=now, deadline=deadline)
        self._queue.enter(ticket)
        self._admitted += 1
        return ticket

    def pressure(self, criticality: Criticality, *, client: str = "") -> float:
        """The predicted wait of a new ticket as a multiple of the bearable wait; 0 if degradation is switched off."""
        if not self._settings.degrade:
            return 0.0
        return self.predicted_wait(criticality, client=client) / (BEARABLE_SHARE * self.deadline_seconds)

    @property
    def deadline_seconds(self) -> float:
        return self._settings.deadline_seconds

    def drain(self) -> None:
        """Refuses every new ticket from now on; tickets already granted are served."""
        self._draining = True

    def statistics(self) -> AdmissionStatistics:
        now = self._clock()
        waiting = [*self._queue.fetching, *self._queue.waiting_tickets()]
        classes = {kind.name.lower(): count for kind, count in self._queue.counts().items()}
        return AdmissionStatistics(
            waiting=len(waiting),
            waiting_by_class=MappingProxyType(classes),
            running=len(self._queue.running),
            slots=self._pool.count,
            limit=self._settings.max_waiting,
            predicted_wait_seconds=self._backlog_wait(now),
            oldest_wait_seconds=max((now - ticket.entered for ticket in waiting), default=0.0),
            decoded_bytes_in_flight=self._queue.decoded_bytes,
            decoded_bytes_limit=self._budget,
            shed=MappingProxyType(dict(self._shed)),
            admitted=self._admitted,
            standing=self._is_standing(now),
            overloaded=self._is_overloaded(now),
            draining=self._draining,
        )

    def predicted_wait(self, criticality: Criticality = Criticality.NORMAL, *, client: str = "") -> float:
        """Seconds that a new ticket of this class and client would wait: cost ahead / (workers x measured rate). 0
        while fewer tickets than workers are ahead."""
        return self._wait(*self._queue.ahead(criticality, client, self._rate, self._clock()))

    def _backlog_wait(self, now: float, criticality: Criticality = Criticality.NORMAL) -> float:
        """Seconds until the workers would have rendered all that waits, of this class and those before it."""
        return self._wait(*self._queue.backlog(criticality, self._rate, now))

    def _wait(self, count: int, seconds: float) -> float:
        return seconds / self._pool.count if count >= self._pool.count else 0.0

    # For Ticket alone

    async def turn(self, ticket: Ticket, cost: Cost) -> WorkerProcess:
        """Returns the worker that the ticket now holds. Raises what `Ticket.slot` raises."""
        now = self._clock()
        if now >= ticket.deadline:
            raise DeadlineExceeded("No time was left to start the render")
        unavailable = self._pool.unavailable()
        if unavailable is not None:
            raise unavailable
        self._join_queue(ticket, cost, now)
        self._dispatch()
        try:
            return await self._wait_for_turn(ticket)
        except TimeoutError:
            reason = "memory" if ticket in self._queue.short_of_memory else "deadline"
            self._withdraw(ticket)
            raise self._refusal(reason, ticket.criticality) from None
        except BaseException:
            self._withdraw(ticket)
            raise

    def end(self, ticket: Ticket) -> None:
        """The render has ended, and its worker is free or dead."""
        if ticket.started is not None and ticket.cost is not None:
            self._rate.learn(held_seconds=self._clock() - ticket.started, cost=ticket.cost)
        self.leave(ticket)

    def leave(self, ticket: Ticket) -> None:
        if self._queue.leave(ticket):
            self._dispatch()

    def _join_queue(self, ticket: Ticket, cost: Cost, now: float) -> None:
        """Raises Overloaded (predicted_wait)."""
        is_retry = ticket.started is not None
        ticket.cost, ticket.queued, ticket.started = cost, now, None
        ticket.turn = asyncio.get_running_loop().create_future()
        if is_retry:
            self._queue.requeue(ticket)
            return
        self._queue.enqueue(ticket)
        wait = self._wait(*self._queue.ahead_of_newest(ticket, self._rate, now))
        if wait > 0 and now + self._margin() * wait > self._latest_start(ticket):
            self.leave(ticket)
            raise self._refusal("predicted_wait", ticket.criticality)
        self._evict_excess(ticket, now)

    async def _wait_for_turn(self, ticket: Ticket) -> WorkerProcess:
        """Raises TimeoutError when too little time is left for the render, by the rate known at that moment."""
        while True:
            assert ticket.turn is not None
            try:
                async with asyncio.timeout(self._latest_start(ticket) - self._clock()):
                    return await ticket.turn
            except TimeoutError:
                if not self._queue.is_waiting(ticket) or self._clock() >= self._latest_start(ticket):
                    raise
            # Renders have become faster since the timer was set. The timer has cancelled the future.
            ticket.turn = asyncio.get_running_loop().create_future()

    def _withdraw(self, ticket: Ticket) -> None:
        """The ticket stops waiting, even if it got a worker in this very iteration of the event loop."""
        self.leave(ticket)
        turn = ticket.turn
        if turn is not None and turn.done() and not turn.cancelled() and turn.exception() is None:
            self._pool.give_back(turn.result())

    # Decisions

    def _reason_to_refuse(self, criticality: Criticality, client: str) -> str | None:
        if self._draining:
            return "drain"
        if criticality is Criticality.REFRESH:
            return "full" if len(self._queue) >= self._pool.count else None
        share = BATCH_SHARE if criticality is Criticality.BATCH else 1.0
        if len(self._queue) >= self._pool.count + self._settings.max_waiting * share:
            return "full"
        share *= OVERLOAD_SHARE if self._is_overloaded(self._clock()) else 1.0
        allowed = self._settings.deadline_seconds * share
        wait = self.predicted_wait(criticality, client=client)
        # While a worker is free, no request is refused for its cost.
        if wait > 0 and self._margin() * wait + min(self._rate.typical_seconds(), OWN_SHARE * allowed) > allowed:
            return "predicted_wait"
        return None

    def _margin(self) -> float:
        """By how much a predicted wait is multiplied. During an overload, a request that is admitted and then misses
        its deadline costs more than one refused too early. Otherwise a refusal costs more: browsers do not retry."""
        return WAIT_MARGIN if self._load.is_refusing else 1.0

    def _evict_excess(self, ticket: Ticket, now: float) -> None:
        """The fair share of a small client can make the queue longer than the deadline. Then the largest client is
        refused what it sent last, now rather than when its time has passed."""
        while self._backlog_wait(now) > self._settings.deadline_seconds:
            excess = self._eviction.excess(ticket)
            if excess is None:
                return
            self._let_go(excess, partial(self._refusal, "fair_share", excess.criticality))

    def _evict_late(self, now: float) -> None:
        """At the first refusal of an overload, refuses the newest requests that only fit without the margin: now rather
        than after they have waited in vain."""
        while self._margin() * self._backlog_wait(now) > self._settings.deadline_seconds:
            newest = self._eviction.newest_of_largest()
            if newest is None:
                return
            self._let_go(newest, partial(self._refusal, "predicted_wait", newest.criticality))

    def _own_seconds(self, ticket: Ticket) -> float:
        return self._rate.seconds(ticket.cost.seconds) if ticket.cost else self._rate.typical_seconds()

    def _is_newest_first(self, client: str, kind: Criticality, now: float) -> bool:
        """Whether a newer request of this client overtakes its oldest one, which can still be served after all."""
        if not self._is_standing(now):
            return False
        oldest = self._queue.oldest_of(client, kind)
        if oldest is None or oldest.number < 0:
            return False  # its worker has died: it has waited once
        wait = self._wait(*self._queue.ahead(kind, client, self._rate, now))
        return self._latest_start(oldest) - now > OVERTAKE_MARGIN * wait

    def _pool_changed(self) -> None:
        unavailable = self._pool.unavailable()
        if unavailable is None:
            self._dispatch()
            return
        for ticket in self._queue.waiting_tickets():
            self._let_go(ticket, lambda: unavailable)

    def _dispatch(self) -> None:
        """Gives free workers to the tickets whose turn it is. Called at every change."""
        now = self._clock()
        oldest = self._queue.oldest()
        oldest_wait = 0.0 if oldest is None or oldest.queued is None else now - oldest.queued
        self._load.note_wait(now, oldest_wait, self._rate.median_seconds())
        while (ticket := self._next(now)) is not None:
            worker = self._pool.take()
            if worker is None:
                return
            self._queue.start(ticket)
            ticket.started = now
            assert ticket.turn is not None
            ticket.turn.set_result(worker)

    def _next(self, now: float) -> Ticket | None:
        """The ticket whose turn it is; None if no slot is open to any. Removes tickets whose owners are leaving, and
        those that can no longer end in time: their workers would only be killed."""
        while (ticket := self._first(now)) is not None:
            if now <= self._latest_start(ticket) and ticket.turn is not None and not ticket.turn.done():
                return ticket
            self._let_go(ticket, partial(self._refusal, "deadline", ticket.criticality))
        return None

    def _latest_start(self, ticket: Ticket) -> float:
        """When the render must start to end by the deadline. An estimate claims half of the time at most. A render
        whose worker has died is tried until its deadline."""
        if ticket.cost is None or ticket.queued is None or ticket.number < 0:
            return ticket.deadline
        own = min(self._own_seconds(ticket), OWN_SHARE * (ticket.deadline - ticket.queued))
        return ticket.deadline - own

    def _first(self, now: float) -> Ticket | None:
        kinds = self._open_classes()
        if not kinds:
            return None
        overdue = self._overdue(now) if self._queue.short_of_memory else None
        if overdue is not None:
            fits = overdue.cost is None or overdue.cost.decoded_bytes <= self._free_bytes()
            return overdue if overdue.criticality in kinds and fits else None
        return self._queue.next(kinds, self._free_bytes(), is_newest_first=partial(self._is_newest_first, now=now))

    def _overdue(self, now: float) -> Ticket | None:
        """The first ticket that has waited for memory too long: no other ticket overtakes it any more, so that running
        renders end and their memory becomes free."""
        limit = now - OVERTAKE_SHARE * self._settings.deadline_seconds
        overdue = (it for it in self._queue.short_of_memory if it.queued is not None and it.queued < limit)
        return min(overdue, key=lambda it: (it.criticality, it.number), default=None)

    def _open_classes(self) -> tuple[Criticality, ...]:
        """The classes that a free worker is open to."""
        free = self._pool.count - len(self._queue.running)
        if free <= 0:
            return ()
        return ALL_CLASSES if free > self._pool.count // RESERVE else (Criticality.URGENT,)

    def _free_bytes(self) -> int:
        """What is left of the budget of decoded bytes. A render that exceeds the whole budget runs alone."""
        in_flight = self._queue.decoded_bytes
        return self._budget - in_flight if in_flight else sys.maxsize

    def _let_go(self, ticket: Ticket, error: Callable[[], ImgserverError]) -> None:
        """Removes a waiting ticket. Its owner gets the error, unless the owner is leaving in this very iteration of the
        event loop."""
        self._queue.leave(ticket)
        if ticket.turn is not None and not ticket.turn.done():
            ticket.turn.set_exception(error())
            ticket.turn.exception()  # marks it as retrieved: the owner may be cancelled before it reads the error

    def _is_standing(self, now: float) -> bool:
        return self._queue.waiting > 0 and self._load.is_standing(now)

    def _is_overloaded(self, now: float) -> bool:
        return self._load.is_overloaded(now, self._backlog_wait(now))

    def _refusal(self, reason: str, criticality: Criticality) -> Overloaded:
        now = self._clock()
        self._shed[reason] += 1
        if reason == "predicted_wait" and criticality <= Criticality.LOW and not self._load.is_refusing:
            self._load.note_refusal(now)
            self._evict_late(now)
        wait = max(1.0, self._backlog_wait(now)) * self._jitter.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)
        return Overloaded(reason=reason, retry_after=max(1, min(RETRY_CAP_SECONDS, round(wait))))
