import asyncio
import contextlib
from typing import ClassVar

import pytest

from imgserver.errors import DeadlineExceeded, Overloaded, Unavailable
from imgserver.rendering.admission import Admission, AdmissionSettings, Criticality, Ticket
from imgserver.rendering.cost import Cost
from tests.faults.conftest import until
from tests.free_workers import FreeWorkers

SHORT = Cost(0.05)
MEGABYTE = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def open_admission(clock: Clock, *, slots: int = 1, **settings) -> Admission:
    return Admission(AdmissionSettings(**settings), pool=FreeWorkers(slots), clock=clock)


class Visitor:
    """Takes a ticket, asks for a slot, and stays inside until told to go."""

    inside: ClassVar[list[str]] = []

    def __init__(self, admission: Admission, name: str = "", cost: Cost = SHORT, kind=Criticality.NORMAL) -> None:
        self.name = name
        self.ticket = admission.enter(kind)
        self.go = asyncio.Event()
        self.task = asyncio.ensure_future(self._visit(cost))

    async def _visit(self, cost: Cost) -> None:
        with self.ticket:
            async with self.ticket.slot(cost):
                Visitor.inside.append(self.name)
                await self.go.wait()

    @property
    def is_inside(self) -> bool:
        return self.ticket.started is not None and not self.task.done()

    async def leave(self) -> None:
        self.go.set()
        await self.task


@pytest.fixture(autouse=True)
def inside():
    Visitor.inside = []
    return Visitor.inside


async def queue(admission: Admission, *visitors: Visitor) -> None:
    await until(lambda: all(visitor.ticket.queued is not None or visitor.task.done() for visitor in visitors))


async def render_some(admission: Admission, clock: Clock) -> None:
    """Renders of 50 ms, so that the admission knows what is usual."""
    for _ in range(3):
        visitor = Visitor(admission, "usual")
        await queue(admission, visitor)
        clock.now += SHORT.seconds
        await visitor.leave()
    Visitor.inside.clear()


async def dismiss(*visitors: Visitor) -> None:
    for visitor in visitors:
        visitor.task.cancel()
    await asyncio.gather(*(visitor.task for visitor in visitors), return_exceptions=True)


# The door


async def test_the_room_has_a_hard_bound(clock):
    admission = open_admission(clock, slots=2, max_waiting=4)
    tickets = [admission.enter() for _ in range(6)]

    with pytest.raises(Overloaded) as refused:
        admission.enter()
    assert refused.value.facts["reason"] == "full"
    assert admission.statistics().shed == {"full": 1}
    assert repr(admission) == "<Admission waiting 6/4, running 0/2, shed 1>"
    for ticket in tickets:
        with ticket:
            pass
    assert admission.statistics().waiting == 0


async def test_a_place_is_free_again_whatever_happens(clock):
    admission = open_admission(clock, max_waiting=1)
    with contextlib.suppress(ZeroDivisionError), admission.enter():
        raise ZeroDivisionError

    assert admission.statistics().waiting == 0


async def test_retry_after_is_whole_seconds_with_jitter_and_a_cap(clock):
    admission = open_admission(clock, slots=1, max_waiting=1, deadline_seconds=600)
    holder = Visitor(admission, cost=Cost(20.0))
    await queue(admission, holder)
    admission.enter()

    seen = set()
    for _ in range(200):
        with pytest.raises(Overloaded) as refused:
            admission.enter()
        seen.add(refused.value.facts["retry_after"])
    assert all(isinstance(seconds, int) and 16 <= seconds <= 25 for seconds in seen)
    assert len(seen) > 3
    await dismiss(holder)


async def test_draining_refuses_newcomers_and_serves_the_admitted(clock):
    admission = open_admission(clock)
    visitor = Visitor(admission)
    admission.drain()

    with pytest.raises(Overloaded) as refused:
        admission.enter()
    assert refused.value.facts["reason"] == "drain"
    visitor.go.set()
    await visitor.task


async def test_a_predicted_wait_beyond_the_deadline_is_refused_at_once(clock):
    admission = open_admission(clock, slots=2, deadline_seconds=10)
    visitors = [Visitor(admission, cost=Cost(4.0)) for _ in range(4)]
    await queue(admission, *visitors)

    assert admission.predicted_wait() == pytest.approx(8.0)
    fifth = Visitor(admission, cost=Cost(2.5))
    with pytest.raises(Overloaded) as refused:
        await fifth.task
    assert refused.value.facts["reason"] == "predicted_wait"
    sixth = Visitor(admission, cost=Cost(1.5))
    await queue(admission, sixth)
    assert not sixth.task.done()
    await dismiss(*visitors, sixth)


async def test_the_door_refuses_what_cannot_end_in_time(clock):
    admission = open_admission(clock, deadline_seconds=10)
    holder = Visitor(admission, cost=Cost(9.95))
    await queue(admission, holder)

    with pytest.raises(Overloaded) as refused:
        admission.enter()
    assert refused.value.facts["reason"] == "predicted_wait"
    await dismiss(holder)


async def test_a_free_slot_is_never_refused_for_an_estimate(clock):
    admission = open_admission(clock, deadline_seconds=1)
    visitor = Visitor(admission, cost=Cost(50.0))
    await queue(admission, visitor)

    assert visitor.is_inside
    await visitor.leave()


async def test_predictions_follow_the_measured_rate(clock):
    admission = open_admission(clock)
    for _ in range(60):
        visitor = Visitor(admission, cost=Cost(0.1))
        await queue(admission, visitor)
        clock.now += 0.2
        await visitor.leave()
    visitor = Visitor(admission, cost=Cost(0.1))
    await queue(admission, visitor)

    assert admission.predicted_wait() == pytest.approx(0.2, rel=0.05)
    await visitor.leave()


# Classes


async def test_low_priority_may_use_half_of_the_room(clock):
    admission = open_admission(clock, slots=1, max_waiting=4)
    tickets = [admission.enter(Criticality.LOW) for _ in range(3)]

    with pytest.raises(Overloaded):
        admission.enter(Criticality.LOW)
    tickets += [admission.enter(), admission.enter()]
    with pytest.raises(Overloaded):
        admission.enter()


async def test_a_refresh_gets_only_what_nobody_else_wants(clock):
    admission = open_admission(clock, slots=1)
    with admission.enter(Criticality.REFRESH):
        pass
    with admission.enter(), pytest.raises(Overloaded):
        admission.enter(Criticality.REFRESH)


async def test_a_full_room_puts_out_the_newest_of_the_lowest_class(clock):
    admission = open_admission(clock, slots=1, max_waiting=4)
    holder, first, second = (Visitor(admission, kind=Criticality(kind)) for kind in (1, 2, 2))
    await queue(admission, holder, first, second)
    admission.enter(), admission.enter()
    clock.now += 0.01
    admission.enter(Criticality.URGENT)

    with pytest.raises(Overloaded) as refused:
        await second.task
    assert refused.value.facts["reason"] == "full"
    assert not first.task.done()
    await dismiss(holder, first)


async def test_the_urgent_get_the_next_free_slot(clock, inside):
    admission = open_admission(clock)
    holder = Visitor(admission, "holder")
    await queue(admission, holder)
    kinds = {"low": Criticality.LOW, "normal": Criticality.NORMAL, "urgent": Criticality.URGENT}
    others = [Visitor(admission, name, kind=kind) for name, kind in kinds.items()]
    await queue(admission, *others)
    for visitor in [holder, *others]:
        visitor.go.set()
    await asyncio.gather(*(visitor.task for visitor in others))

    assert inside == ["holder", "urgent", "normal", "low"]


async def test_one_slot_in_ten_is_kept_for_the_urgent(clock):
    admission = open_admission(clock, slots=10)
    visitors = [Visitor(admission) for _ in range(10)]
    await queue(admission, *visitors)
    urgent = Visitor(admission, kind=Criticality.URGENT)
    await queue(admission, urgent)

    assert [visitor.is_inside for visitor in visitors] == [True] * 9 + [False]
    assert urgent.is_inside
    await dismiss(*visitors, urgent)


# Turns


async def test_at_most_the_slots_are_inside_and_turns_are_first_come_first_served(clock, inside):
    admission = open_admission(clock, slots=2)
    visitors = []
    for name in "abcde":
        visitors.append(Visitor(admission, name))
        await queue(admission, visitors[-1])
        clock.now += 0.001

    assert inside == ["a", "b"]
    assert admission.statistics().running == 2
    for visitor in visitors:
        await visitor.leave()
    assert inside == list("abcde")
    assert admission.statistics().running == admission.statistics().waiting == 0


async def test_waited_seconds_count_from_asking_to_getting(clock):
    admission = open_admission(clock)
    holder = Visitor(admission)
    await queue(admission, holder)
    clock.now += 1
    waiter = Visitor(admission)
    await queue(admission, waiter)
    clock.now += 0.5
    await holder.leave()
    clock.now += 3

    assert waiter.ticket.waited_seconds == 0.5
    await waiter.leave()


async def test_a_standing_queue_lets_in_only_short_waits(clock):
    admission = open_admission(clock, standing_seconds=1, deadline_seconds=10)
    await render_some(admission, clock)
    holder = Visitor(admission, cost=Cost(9.0))
    await queue(admission, holder)
    waiter = Visitor(admission, cost=Cost(0.9))
    await queue(admission, waiter)
    admission.enter().__exit__()
    clock.now += 2

    assert admission.statistics().standing
    with pytest.raises(Overloaded) as refused:
        admission.enter()
    assert refused.value.facts["reason"] == "predicted_wait"
    clock.now += 6
    admission.enter().__exit__()
    await dismiss(holder, waiter)


async def test_a_queue_stops_standing_when_it_is_short_again(clock):
    admission = open_admission(clock, standing_seconds=1)
    await render_some(admission, clock)
    holder, waiter = Visitor(admission), Visitor(admission)
    await queue(admission, holder, waiter)
    clock.now += 2
    assert admission.statistics().standing
    await holder.leave()
    await waiter.leave()

    assert not admission.statistics().standing


async def test_a_burst_is_no_standing_queue(clock, inside):
    admission = open_admission(clock)
    visitors = []
    for name in "abcdef":
        visitors.append(Visitor(admission, name))
        await queue(admission, visitors[-1])
        clock.now += 0.0001
    for visitor in visitors:
        clock.now += 0.1
        await visitor.leave()

    assert inside == list("abcdef")


async def test_work_of_the_vanished_never_starts(clock, inside):
    admission = open_admission(clock)
    holder, leaver, stayer = (Visitor(admission, name) for name in ("holder", "leaver", "stayer"))
    await queue(admission, holder, leaver, stayer)
    await dismiss(leaver)

    assert admission.statistics().waiting == 1
    await holder.leave()
    await stayer.leave()
    assert inside == ["holder", "stayer"]


async def test_one_who_leaves_as_its_turn_comes_passes_the_slot_on(clock):
    admission = open_admission(clock)
    holder, leaver, stayer = (Visitor(admission) for _ in range(3))
    await queue(admission, holder, leaver, stayer)
    admission.end(holder.ticket)  # gives its worker to the leaver, whose task does not run before it is cancelled
    leaver.task.cancel()
    await until(lambda: stayer.is_inside)
    await dismiss(holder)

    await stayer.leave()
    assert admission.statistics().running == 0


# Deadlines: real time where a timer must fire


async def test_who_waits_until_the_deadline_is_told_so():
    admission = Admission(AdmissionSettings(deadline_seconds=0.1), pool=FreeWorkers(1))
    holder = Visitor(admission, cost=Cost(0.0))
    await queue(admission, holder)
    waiter = Visitor(admission, cost=Cost(0.0))

    with pytest.raises(Overloaded) as refused:
        await waiter.task
    assert refused.value.facts["reason"] == "deadline"
    assert admission.statistics().waiting == 0
    await holder.leave()


async def test_a_source_that_took_all_the_time_is_a_timeout(clock):
    admission = open_admission(clock)
    with admission.enter() as ticket:
        clock.now += 11
        with pytest.raises(DeadlineExceeded):
            await _enter_slot(ticket)


async def test_hopeless_work_leaves_before_dispatch(clock):
    admission = open_admission(clock, deadline_seconds=10)
    holder = Visitor(admission, cost=Cost(2.0))
    await queue(admission, holder)
    waiter = Visitor(admission, cost=Cost(3.0))
    await queue(admission, waiter)
    clock.now += 9
    await holder.leave()

    with pytest.raises(Overloaded):
        await waiter.task


async def _enter_slot(ticket: Ticket) -> None:
    async with ticket.slot(SHORT):
        pass


# Memory


async def test_large_work_runs_one_after_another_while_small_work_passes(clock, inside):
    admission = open_admission(clock, slots=3, max_decoded_bytes=200 * MEGABYTE)
    large = Cost(0.1, 160 * MEGABYTE)
    small = Cost(0.1, 4 * MEGABYTE)
    visitors = [Visitor(admission, "large 1", large), Visitor(admission, "large 2", large)]
    visitors += [Visitor(admission, "small", small)]
    await queue(admission, *visitors)

    assert inside == ["large 1", "small"]
    assert admission.statistics().decoded_bytes_in_flight == 164 * MEGABYTE
    await visitors[0].leave()
    await until(lambda: visitors[1].is_inside)
    await dismiss(*visitors)
    assert admission.statistics().decoded_bytes_in_flight == 0


async def test_what_exceeds_the_whole_budget_runs_alone(clock):
    admission = open_admission(clock, slots=2, max_decoded_bytes=MEGABYTE)
    huge = Visitor(admission, cost=Cost(0.1, 5 * MEGABYTE))
    await queue(admission, huge)
    other = Visitor(admission, cost=Cost(0.1, 10))
    await queue(admission, other)

    assert huge.is_inside
    assert not other.is_inside
    await huge.leave()
    await until(lambda: other.is_inside)
    await other.leave()


async def test_large_work_is_not_passed_for_ever(clock):
    admission = open_admission(clock, slots=2, max_decoded_bytes=10, deadline_seconds=10)
    running, large = (Visitor(admission, cost=Cost(0.1, size)) for size in (5, 10))
    await queue(admission, running, large)
    clock.now += 3
    small = Visitor(admission, cost=Cost(0.1, 1))
    await queue(admission, small)

    assert [running.is_inside, large.is_inside, small.is_inside] == [True, False, False]
    await running.leave()
    await until(lambda: large.is_inside)
    await dismiss(large, small)


async def test_waiting_in_vain_for_memory_says_so():
    admission = Admission(AdmissionSettings(deadline_seconds=0.1, max_decoded_bytes=10), pool=FreeWorkers(2))
    holder, waiter = (Visitor(admission, cost=Cost(0.0, 10)) for _ in range(2))

    with pytest.raises(Overloaded) as refused:
        await waiter.task
    assert refused.value.facts["reason"] == "memory"
    await holder.leave()


async def test_knocking_tells_what_entering_would_and_takes_no_place(clock):
    admission = open_admission(clock, max_waiting=1)
    for _ in range(5):
        admission.check_capacity()
    assert admission.statistics().admitted == 0
    inside = Visitor(admission, kind=Criticality.NORMAL)
    waiting = Visitor(admission, kind=Criticality.NORMAL)
    await queue(admission, inside, waiting)

    with pytest.raises(Overloaded) as refused:
        admission.check_capacity()
    assert refused.value.facts["reason"] == "full"
    admission.check_capacity(Criticality.URGENT)
    assert admission.statistics().waiting == 1
    await dismiss(inside, waiting)


async def test_what_was_waited_elsewhere_counts_into_the_deadline(clock):
    admission = open_admission(clock, deadline_seconds=10)
    with admission.enter(began=clock.now - 4) as ticket:
        assert ticket.deadline == clock.now + 6
        assert admission.statistics().oldest_wait_seconds == 0


# The pool


async def test_a_render_whose_worker_died_waits_at_the_front_of_its_class(clock, inside):
    admission = open_admission(clock)
    ticket = admission.enter()
    async with ticket.slot(SHORT):
        waiters = [Visitor(admission, name) for name in "ab"]
        await queue(admission, *waiters)
    await until(lambda: waiters[0].is_inside)
    retry = asyncio.ensure_future(_enter_slot(ticket))
    await until(lambda: admission.statistics().waiting == 2)
    await waiters[0].leave()
    await retry

    assert inside == ["a"]
    await until(lambda: waiters[1].is_inside)
    await waiters[1].leave()
    assert admission.statistics().waiting == admission.statistics().running == 0


async def test_a_render_whose_worker_died_is_tried_again_while_any_time_is_left(clock):
    admission = open_admission(clock, deadline_seconds=10)
    with admission.enter() as ticket:
        async with ticket.slot(Cost(5.0)):
            clock.now += 9
        async with ticket.slot(Cost(5.0)):
            assert admission.statistics().running == 1


async def test_waiting_renders_are_refused_when_the_pool_becomes_unavailable(clock):
    pool = FreeWorkers(1)
    admission = Admission(AdmissionSettings(), pool=pool, clock=clock)
    holder, waiter = Visitor(admission), Visitor(admission)
    await queue(admission, holder, waiter)
    pool.unavailable_error = Unavailable(reason="no worker", retry_after=2)
    pool.changed()

    for refused in (waiter, Visitor(admission)):
        with pytest.raises(Unavailable) as caught:
            await refused.task
        assert caught.value.facts["reason"] == "no worker"
    await dismiss(holder)


async def test_a_worker_that_nobody_uses_is_given_back(clock):
    pool = FreeWorkers(1)
    admission = Admission(AdmissionSettings(), pool=pool, clock=clock)
    holder, leaver = Visitor(admission), Visitor(admission)
    await queue(admission, holder, leaver)
    admission.end(holder.ticket)  # gives its worker to the leaver, whose task does not run before it is cancelled
    leaver.task.cancel()
    await asyncio.wait([leaver.task])
    await dismiss(holder)

    assert (pool.given_back, admission.statistics().running) == (1, 0)
