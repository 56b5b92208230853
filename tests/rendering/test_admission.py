import asyncio
import contextlib
import time
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


class FakeRender:
    """Takes a ticket, waits for a worker, and runs until `finish`. `started`: the names of the renders in order."""

    started: ClassVar[list[str]] = []

    def __init__(
        self,
        admission: Admission,
        name: str = "",
        cost: Cost = SHORT,
        criticality=Criticality.NORMAL,
        *,
        client: str = "",
    ) -> None:
        self.name = name
        self.ticket = admission.enter(criticality, client=client)
        self.finished = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(cost))

    async def _run(self, cost: Cost) -> None:
        with self.ticket:
            async with self.ticket.slot(cost):
                FakeRender.started.append(self.name)
                await self.finished.wait()

    @property
    def is_running(self) -> bool:
        return self.ticket.started is not None and not self.task.done()

    async def finish(self) -> None:
        self.finished.set()
        await self.task


@pytest.fixture(autouse=True)
def started():
    FakeRender.started = []
    return FakeRender.started


async def wait_queued(*renders: FakeRender) -> None:
    """Waits until each render has joined the queue or was refused."""
    await until(lambda: all(render.ticket.queued is not None or render.task.done() for render in renders))


async def render_some(admission: Admission, clock: Clock) -> None:
    """Finishes renders of 50 ms, from which the admission learns."""
    for _ in range(3):
        render = FakeRender(admission, "usual")
        await wait_queued(render)
        clock.now += SHORT.seconds
        await render.finish()
    FakeRender.started.clear()


async def cancel(*renders: FakeRender) -> None:
    for render in renders:
        render.task.cancel()
    await asyncio.gather(*(render.task for render in renders), return_exceptions=True)


# Refusals


async def test_a_full_queue_refuses(clock):
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


async def test_an_exception_frees_the_place(clock):
    admission = open_admission(clock, max_waiting=1)
    with contextlib.suppress(ZeroDivisionError), admission.enter():
        raise ZeroDivisionError

    assert admission.statistics().waiting == 0


async def test_retry_after_is_whole_seconds_with_jitter_and_a_cap(clock):
    admission = open_admission(clock, slots=1, max_waiting=1, deadline_seconds=600)
    running = FakeRender(admission, cost=Cost(20.0))
    await wait_queued(running)
    admission.enter()

    seen = set()
    for _ in range(200):
        with pytest.raises(Overloaded) as refused:
            admission.enter()
        seen.add(refused.value.facts["retry_after"])
    assert all(isinstance(seconds, int) and 16 <= seconds <= 25 for seconds in seen)
    assert len(seen) > 3
    await cancel(running)


async def test_draining_refuses_new_requests_and_serves_admitted_ones(clock):
    admission = open_admission(clock)
    render = FakeRender(admission)
    admission.drain()

    with pytest.raises(Overloaded) as refused:
        admission.enter()
    assert refused.value.facts["reason"] == "drain"
    render.finished.set()
    await render.task


async def test_a_predicted_wait_beyond_the_deadline_is_refused_at_once(clock):
    admission = open_admission(clock, slots=2, deadline_seconds=10)
    renders = [FakeRender(admission, cost=Cost(3.0)) for _ in range(4)]
    await wait_queued(*renders)

    assert admission.predicted_wait() == pytest.approx(6.0)
    fifth = FakeRender(admission, cost=Cost(4.5))
    with pytest.raises(Overloaded) as refused:
        await fifth.task
    assert refused.value.facts["reason"] == "predicted_wait"
    sixth = FakeRender(admission, cost=Cost(1.0))
    await wait_queued(sixth)
    assert not sixth.task.done()
    await cancel(*renders, sixth)


async def test_a_request_is_refused_if_the_predicted_wait_uses_up_its_deadline(clock):
    admission = open_admission(clock, deadline_seconds=10)
    running = FakeRender(admission, cost=Cost(9.95))
    await wait_queued(running)

    with pytest.raises(Overloaded) as refused:
        admission.enter()
    assert refused.value.facts["reason"] == "predicted_wait"
    await cancel(running)


async def test_an_estimate_above_the_deadline_refuses_nothing_by_itself(clock):
    admission = open_admission(clock, deadline_seconds=10)
    running = FakeRender(admission, cost=Cost(2.0))
    await wait_queued(running)
    waiter = FakeRender(admission, cost=Cost(50.0))
    await wait_queued(waiter)
    clock.now += 4
    await running.finish()

    assert waiter.is_running
    await waiter.finish()


async def test_an_estimate_refuses_nothing_while_a_worker_is_free(clock):
    admission = open_admission(clock, deadline_seconds=1)
    render = FakeRender(admission, cost=Cost(50.0))
    await wait_queued(render)

    assert render.is_running
    await render.finish()


async def test_predictions_follow_the_measured_rate(clock):
    admission = open_admission(clock)
    for _ in range(60):
        render = FakeRender(admission, cost=Cost(0.1))
        await wait_queued(render)
        clock.now += 0.2
        await render.finish()
    render = FakeRender(admission, cost=Cost(0.1))
    await wait_queued(render)

    assert admission.predicted_wait() == pytest.approx(0.2, rel=0.05)
    await render.finish()


# Classes


async def test_batch_requests_use_half_of_the_queue_at_most(clock):
    admission = open_admission(clock, slots=1, max_waiting=4)
    tickets = [admission.enter(Criticality.BATCH) for _ in range(3)]

    with pytest.raises(Overloaded):
        admission.enter(Criticality.BATCH)
    tickets += [admission.enter(), admission.enter()]
    with pytest.raises(Overloaded):
        admission.enter()


async def test_a_refresh_is_refused_while_all_workers_are_taken(clock):
    admission = open_admission(clock, slots=1)
    with admission.enter(Criticality.REFRESH):
        pass
    with admission.enter(), pytest.raises(Overloaded):
        admission.enter(Criticality.REFRESH)


async def test_a_full_queue_evicts_the_newest_of_the_lowest_class(clock):
    admission = open_admission(clock, slots=1, max_waiting=4)
    running, first, second = (FakeRender(admission, criticality=Criticality(criticality)) for criticality in (1, 2, 2))
    await wait_queued(running, first, second)
    admission.enter(), admission.enter()
    clock.now += 0.01
    admission.enter(Criticality.URGENT)

    with pytest.raises(Overloaded) as refused:
        await second.task
    assert refused.value.facts["reason"] == "full"
    assert not first.task.done()
    await cancel(running, first)


async def test_a_full_queue_evicts_no_low_request_of_another_client(clock):
    """Some browsers send the priority of LOW with every image."""
    admission = open_admission(clock, max_waiting=4)
    flood = [FakeRender(admission, client="flood") for _ in range(4)]
    visitor = FakeRender(admission, client="visitor", criticality=Criticality.LOW)
    await wait_queued(*flood, visitor)

    with pytest.raises(Overloaded):
        admission.enter(client="flood")
    assert not visitor.task.done()
    await cancel(*flood, visitor)


async def test_low_requests_of_a_small_client_precede_the_flood_of_another(clock, started):
    admission = open_admission(clock)
    flood = [FakeRender(admission, "flood", client="flood", criticality=Criticality.URGENT) for _ in range(4)]
    await wait_queued(*flood)
    visitor = FakeRender(admission, "visitor", client="visitor", criticality=Criticality.LOW)
    await wait_queued(visitor)
    await flood[0].finish()

    assert started == ["flood", "visitor"]
    await cancel(*flood, visitor)


async def test_an_urgent_request_gets_the_next_free_worker(clock, started):
    admission = open_admission(clock)
    running = FakeRender(admission, "running")
    await wait_queued(running)
    classes = {"low": Criticality.LOW, "normal": Criticality.NORMAL, "urgent": Criticality.URGENT}
    others = [FakeRender(admission, name, criticality=criticality) for name, criticality in classes.items()]
    await wait_queued(*others)
    for render in [running, *others]:
        render.finished.set()
    await asyncio.gather(*(render.task for render in others))

    assert started == ["running", "urgent", "normal", "low"]


async def test_one_worker_in_ten_is_reserved_for_urgent_requests(clock):
    admission = open_admission(clock, slots=10)
    renders = [FakeRender(admission) for _ in range(10)]
    await wait_queued(*renders)
    urgent = FakeRender(admission, criticality=Criticality.URGENT)
    await wait_queued(urgent)

    assert [render.is_running for render in renders] == [True] * 9 + [False]
    assert urgent.is_running
    await cancel(*renders, urgent)


# Clients


async def test_a_small_client_is_served_before_the_others_requests_of_a_large_one(clock, started):
    admission = open_admission(clock)
    large = [FakeRender(admission, f"large {number}", client="large") for number in range(4)]
    await wait_queued(*large)
    visitor = FakeRender(admission, "visitor", client="visitor")
    await wait_queued(visitor)
    await large[0].finish()

    assert started == ["large 0", "visitor"]
    assert large[1].ticket.started is None
    await cancel(*large, visitor)


async def test_urgent_requests_of_one_client_do_not_precede_those_of_another(clock, started):
    admission = open_admission(clock)
    large = [FakeRender(admission, str(number), client="large", criticality=Criticality.URGENT) for number in range(3)]
    await wait_queued(*large)
    visitor = FakeRender(admission, "visitor", client="visitor")
    await wait_queued(visitor)
    await large[0].finish()

    assert started == ["0", "visitor"]
    await cancel(*large, visitor)


async def test_the_requests_of_a_large_client_refuse_no_small_client(clock):
    admission = open_admission(clock, deadline_seconds=10)
    large = [FakeRender(admission, client="large", cost=Cost(1.0)) for _ in range(9)]
    await wait_queued(*large)

    with pytest.raises(Overloaded):
        await FakeRender(admission, client="large", cost=Cost(1.5)).task
    visitor = FakeRender(admission, client="visitor", cost=Cost(1.5))
    await wait_queued(visitor)
    assert not visitor.task.done()
    await cancel(*large, visitor)


async def test_a_small_client_takes_the_place_of_the_newest_request_of_the_largest_one(clock):
    admission = open_admission(clock, max_waiting=4)
    large = [FakeRender(admission, client="large") for _ in range(5)]
    await wait_queued(*large)

    with pytest.raises(Overloaded):
        admission.enter(client="large")
    visitor = FakeRender(admission, client="visitor")
    with pytest.raises(Overloaded) as refused:
        await large[-1].task
    assert refused.value.facts["reason"] == "full"
    assert not any(render.task.done() for render in large[:-1])
    await cancel(*large, visitor)


async def test_what_a_small_client_adds_beyond_the_deadline_the_largest_one_loses(clock):
    admission = open_admission(clock, deadline_seconds=12)
    large = [FakeRender(admission, client="large", cost=Cost(1.0)) for _ in range(10)]
    await wait_queued(*large)
    visitor = FakeRender(admission, client="visitor", cost=Cost(2.5))

    with pytest.raises(Overloaded) as refused:
        await large[-1].task
    assert refused.value.facts["reason"] == "fair_share"
    assert not any(render.task.done() for render in large[:-1])
    await cancel(*large, visitor)


# Turns


async def test_turns_are_first_come_first_served(clock, started):
    admission = open_admission(clock, slots=2)
    renders = []
    for name in "abcde":
        renders.append(FakeRender(admission, name))
        await wait_queued(renders[-1])
        clock.now += 0.001

    assert started == ["a", "b"]
    assert admission.statistics().running == 2
    for render in renders:
        await render.finish()
    assert started == list("abcde")
    assert admission.statistics().running == admission.statistics().waiting == 0


async def test_waited_seconds_count_from_joining_the_queue_to_the_start(clock):
    admission = open_admission(clock)
    running = FakeRender(admission)
    await wait_queued(running)
    clock.now += 1
    waiter = FakeRender(admission)
    await wait_queued(waiter)
    clock.now += 0.5
    await running.finish()
    clock.now += 3

    assert waiter.ticket.waited_seconds == 0.5
    await waiter.finish()


async def test_a_standing_queue_serves_the_newest_first_while_the_oldest_has_time(clock, started):
    admission = open_admission(clock, standing_seconds=1, deadline_seconds=20)
    await render_some(admission, clock)
    renders = [FakeRender(admission, name, cost=Cost(0.5)) for name in ("running", "oldest", "middle", "newest")]
    for render in renders:
        await wait_queued(render)
    clock.now += 2

    assert admission.statistics().standing
    await renders[0].finish()
    assert started == ["running", "newest"]
    await renders[3].finish()
    assert started == ["running", "newest", "middle"]
    await cancel(*renders)


async def test_a_standing_queue_serves_the_oldest_first_when_its_time_is_short(clock, started):
    admission = open_admission(clock, standing_seconds=1, deadline_seconds=10)
    await render_some(admission, clock)
    renders = [FakeRender(admission, name, cost=Cost(2.0)) for name in ("running", "oldest", "newest")]
    for render in renders:
        await wait_queued(render)
    clock.now += 5
    await renders[0].finish()

    assert started == ["running", "oldest"]
    await cancel(*renders)


async def test_a_standing_queue_admits_every_request_that_can_end_before_its_deadline(clock):
    admission = open_admission(clock, standing_seconds=1, deadline_seconds=10)
    await render_some(admission, clock)
    renders = [FakeRender(admission, cost=Cost(4.0)) for _ in range(2)]
    await wait_queued(*renders)
    clock.now += 2

    assert admission.statistics().standing
    admission.enter().__exit__()
    await cancel(*renders)


async def test_the_first_refusal_refuses_the_newest_requests_that_may_be_late(clock):
    admission = open_admission(clock, deadline_seconds=10)
    renders = [FakeRender(admission, cost=Cost(0.5)) for _ in range(20)]
    await wait_queued(*renders)
    with pytest.raises(Overloaded):
        admission.enter()
    refused = [render for render in renders[1:] if render.ticket.turn.done()]

    assert refused == renders[-2:]
    for render in refused:
        with pytest.raises(Overloaded):
            await render.task
    await cancel(*renders[:-2])


async def test_lasting_refusals_shorten_the_queue_until_it_is_worked_off(clock):
    admission = open_admission(clock, standing_seconds=1, deadline_seconds=10)
    running = FakeRender(admission, cost=Cost(9.95))
    await wait_queued(running)
    with pytest.raises(Overloaded):
        admission.enter()
    assert not admission.statistics().overloaded
    clock.now += 2

    assert admission.statistics().overloaded
    with pytest.raises(Overloaded):
        admission.enter()  # it would wait for 8 seconds
    clock.now += 4
    admission.enter().__exit__()
    clock.now += 2
    assert not admission.statistics().overloaded
    await cancel(running)


async def test_a_queue_is_no_longer_standing_when_it_is_short_again(clock):
    admission = open_admission(clock, standing_seconds=1)
    await render_some(admission, clock)
    running, waiter = FakeRender(admission), FakeRender(admission)
    await wait_queued(running, waiter)
    clock.now += 2
    assert admission.statistics().standing
    await running.finish()
    await waiter.finish()

    assert not admission.statistics().standing


async def test_a_burst_is_not_a_standing_queue(clock, started):
    admission = open_admission(clock)
    renders = []
    for name in "abcdef":
        renders.append(FakeRender(admission, name))
        await wait_queued(renders[-1])
        clock.now += 0.0001
    for render in renders:
        clock.now += 0.1
        await render.finish()

    assert started == list("abcdef")


async def test_a_cancelled_request_never_starts(clock, started):
    admission = open_admission(clock)
    running, cancelled, other = (FakeRender(admission, name) for name in ("running", "cancelled", "other"))
    await wait_queued(running, cancelled, other)
    await cancel(cancelled)

    assert admission.statistics().waiting == 1
    await running.finish()
    await other.finish()
    assert started == ["running", "other"]


async def test_a_request_cancelled_at_its_turn_passes_the_worker_on(clock):
    admission = open_admission(clock)
    running, cancelled, other = (FakeRender(admission) for _ in range(3))
    await wait_queued(running, cancelled, other)
    admission.end(running.ticket)  # gives its worker to a task that does not run before it is cancelled
    cancelled.task.cancel()
    await until(lambda: other.is_running)
    await cancel(running)

    await other.finish()
    assert admission.statistics().running == 0


# Deadlines, in real time where a timer must fire


async def test_a_request_that_waits_until_the_deadline_is_refused():
    admission = Admission(AdmissionSettings(deadline_seconds=0.1), pool=FreeWorkers(1))
    running = FakeRender(admission, cost=Cost(0.0))
    await wait_queued(running)
    waiter = FakeRender(admission, cost=Cost(0.0))

    with pytest.raises(Overloaded) as refused:
        await waiter.task
    assert refused.value.facts["reason"] == "deadline"
    assert admission.statistics().waiting == 0
    await running.finish()


async def test_a_ticket_past_its_deadline_cannot_join_the_queue(clock):
    admission = open_admission(clock)
    with admission.enter() as ticket:
        clock.now += 11
        with pytest.raises(DeadlineExceeded):
            await _enter_slot(ticket)


async def test_a_request_that_can_no_longer_end_in_time_never_starts(clock):
    admission = open_admission(clock, deadline_seconds=10)
    running = FakeRender(admission, cost=Cost(2.0))
    await wait_queued(running)
    waiter = FakeRender(admission, cost=Cost(3.0))
    await wait_queued(waiter)
    clock.now += 9
    await running.finish()

    with pytest.raises(Overloaded):
        await waiter.task


async def _enter_slot(ticket: Ticket) -> None:
    async with ticket.slot(SHORT):
        pass


async def test_a_waiting_request_is_refused_at_its_turn_when_renders_have_become_slower(clock):
    admission = open_admission(clock, deadline_seconds=10)
    running, waiter = FakeRender(admission, cost=Cost(1.0)), FakeRender(admission, cost=Cost(1.0))
    await wait_queued(running, waiter)
    for _ in range(60):
        admission._rate.learn(held_seconds=5.0, cost=Cost(1.0))
    clock.now += 6
    await running.finish()

    with pytest.raises(Overloaded) as refused:
        await waiter.task
    assert refused.value.facts["reason"] == "deadline"


async def test_a_waiting_request_waits_on_when_renders_have_become_faster():
    admission = Admission(AdmissionSettings(deadline_seconds=0.6), pool=FreeWorkers(1))
    running, waiter = FakeRender(admission, cost=Cost(0.0)), FakeRender(admission, cost=Cost(0.5))
    await wait_queued(running, waiter)
    for _ in range(60):
        admission._rate.learn(held_seconds=0.05, cost=Cost(0.5))
    begun = time.monotonic()
    await until(lambda: time.monotonic() > begun + 0.15)
    await running.finish()

    await until(lambda: waiter.is_running)
    await waiter.finish()


# Memory


async def test_large_renders_run_one_after_another_while_small_ones_overtake(clock, started):
    admission = open_admission(clock, slots=3, max_decoded_bytes=200 * MEGABYTE)
    large = Cost(0.1, 160 * MEGABYTE)
    small = Cost(0.1, 4 * MEGABYTE)
    renders = [FakeRender(admission, "large 1", large), FakeRender(admission, "large 2", large)]
    renders += [FakeRender(admission, "small", small)]
    await wait_queued(*renders)

    assert started == ["large 1", "small"]
    assert admission.statistics().decoded_bytes_in_flight == 164 * MEGABYTE
    await renders[0].finish()
    await until(lambda: renders[1].is_running)
    await cancel(*renders)
    assert admission.statistics().decoded_bytes_in_flight == 0


async def test_a_render_above_the_whole_memory_budget_runs_alone(clock):
    admission = open_admission(clock, slots=2, max_decoded_bytes=MEGABYTE)
    huge = FakeRender(admission, cost=Cost(0.1, 5 * MEGABYTE))
    await wait_queued(huge)
    other = FakeRender(admission, cost=Cost(0.1, 10))
    await wait_queued(other)

    assert huge.is_running
    assert not other.is_running
    await huge.finish()
    await until(lambda: other.is_running)
    await other.finish()


async def test_a_large_render_is_not_overtaken_forever(clock):
    admission = open_admission(clock, slots=2, max_decoded_bytes=10, deadline_seconds=10)
    running, large = (FakeRender(admission, cost=Cost(0.1, size)) for size in (5, 10))
    await wait_queued(running, large)
    clock.now += 3
    small = FakeRender(admission, cost=Cost(0.1, 1))
    await wait_queued(small)

    assert [running.is_running, large.is_running, small.is_running] == [True, False, False]
    await running.finish()
    await until(lambda: large.is_running)
    await cancel(large, small)


async def test_a_request_that_waits_in_vain_for_memory_is_refused():
    admission = Admission(AdmissionSettings(deadline_seconds=0.1, max_decoded_bytes=10), pool=FreeWorkers(2))
    running, waiter = (FakeRender(admission, cost=Cost(0.0, 10)) for _ in range(2))

    with pytest.raises(Overloaded) as refused:
        await waiter.task
    assert refused.value.facts["reason"] == "memory"
    await running.finish()


async def test_check_capacity_raises_what_enter_would_and_takes_no_place(clock):
    admission = open_admission(clock, max_waiting=1)
    for _ in range(5):
        admission.check_capacity()
    assert admission.statistics().admitted == 0
    running = FakeRender(admission, criticality=Criticality.NORMAL)
    waiting = FakeRender(admission, criticality=Criticality.NORMAL)
    await wait_queued(running, waiting)

    with pytest.raises(Overloaded) as refused:
        admission.check_capacity()
    assert refused.value.facts["reason"] == "full"
    admission.check_capacity(Criticality.URGENT)
    assert admission.statistics().waiting == 1
    await cancel(running, waiting)


async def test_an_earlier_wait_counts_towards_the_deadline(clock):
    admission = open_admission(clock, deadline_seconds=10)
    with admission.enter(began=clock.now - 4) as ticket:
        assert ticket.deadline == clock.now + 6
        assert admission.statistics().oldest_wait_seconds == 0


# The pool


async def test_a_render_whose_worker_died_waits_at_the_front_of_its_class(clock, started):
    admission = open_admission(clock)
    ticket = admission.enter()
    async with ticket.slot(SHORT):
        waiters = [FakeRender(admission, name) for name in "ab"]
        await wait_queued(*waiters)
    await until(lambda: waiters[0].is_running)
    retry = asyncio.ensure_future(_enter_slot(ticket))
    await until(lambda: admission.statistics().waiting == 2)
    await waiters[0].finish()
    await retry

    assert started == ["a"]
    await until(lambda: waiters[1].is_running)
    await waiters[1].finish()
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
    running, waiter = FakeRender(admission), FakeRender(admission)
    await wait_queued(running, waiter)
    pool.unavailable_error = Unavailable(reason="no worker", retry_after=2)
    pool.changed()

    for refused in (waiter, FakeRender(admission)):
        with pytest.raises(Unavailable) as caught:
            await refused.task
        assert caught.value.facts["reason"] == "no worker"
    await cancel(running)


async def test_an_unused_worker_is_given_back(clock):
    pool = FreeWorkers(1)
    admission = Admission(AdmissionSettings(), pool=pool, clock=clock)
    running, cancelled = FakeRender(admission), FakeRender(admission)
    await wait_queued(running, cancelled)
    admission.end(running.ticket)  # gives its worker to a task that does not run before it is cancelled
    cancelled.task.cancel()
    await asyncio.wait([cancelled.task])
    await cancel(running)

    assert (pool.given_back, admission.statistics().running) == (1, 0)
