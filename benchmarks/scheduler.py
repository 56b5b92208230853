"""What scheduling costs the event loop: a refusal, an eviction, an admission and a dispatch while many requests wait.

In process and without workers, so that only the scheduler is measured. Each request is a suspended coroutine, not a
task, because the switch between two tasks would cost more than what is measured.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Row
from imgserver.errors import Overloaded, Unavailable
from imgserver.rendering.admission import Admission, AdmissionSettings, Criticality, Ticket
from imgserver.rendering.cost import Cost

LENGTHS = (10, 100, 256, 2_000)
WORKERS = 2
TURNS = 5
CALLS = 200
BUDGET_MICROSECONDS = 20.0
# Six image sizes, from thumbnails of a photograph to a progressive JPEG of 24 megapixels.
COSTS = tuple(Cost(0.01, decoded_bytes=200_000 * 4**power) for power in range(6))


@dataclass(slots=True)
class Request:
    """A ticket that is in the queue or has a slot, and the coroutine that waits for the slot."""

    ticket: Ticket
    entering: Coroutine[object, object, object]

    def queue(self) -> None:
        """Runs until the request waits or has its slot."""
        with suppress(StopIteration):
            self.entering.send(None)


class IdlePool:
    """A pool whose workers are free whenever admission takes one."""

    count = WORKERS

    def subscribe(self, on_change: Callable[[], None]) -> None:
        pass

    def take(self) -> Any:
        return self

    def give_back(self, worker: object) -> None:
        pass

    def unavailable(self) -> Unavailable | None:
        return None


def measure_scheduler() -> list[Row]:
    """In microseconds, by the number of requests that wait: the median of the calls of a turn, and the smallest median
    of the turns, because other processes disturbed that turn least."""
    measures: dict[str, Callable[[int], float]] = {
        "a refusal": _refusal,
        "an eviction": _eviction,
        "an admission": _admission,
        "a dispatch": _dispatch,
    }
    return [_row(what, measure) for what, measure in measures.items()]


def _row(what: str, measure: Callable[[int], float]) -> Row:
    turns = [{length: asyncio.run(_in_loop(measure, length)) for length in LENGTHS} for _ in range(TURNS)]
    microseconds = {length: min(turn[length] for turn in turns) for length in LENGTHS}
    shown = ", ".join(f"{micros:.1f} ({length:,})" for length, micros in microseconds.items())
    kept = max(microseconds.values()) < BUDGET_MICROSECONDS
    budget = f"< {BUDGET_MICROSECONDS:.0f} µs at any length"
    return Row(f"{what} (requests waiting)", f"{shown} µs", budget, kept, {"microseconds": turns})


async def _in_loop(measure: Callable[[int], float], length: int) -> float:
    return measure(length)


def _refusal(length: int) -> float:
    """A request is refused while the queue is full, and no ticket of a lower class can be evicted."""
    admission, _, _ = _filled(length, max_waiting=length)

    def refuse() -> None:
        try:
            admission.enter()
        except Overloaded:
            return
        raise AssertionError("not full")

    return _median_microseconds(refuse, lambda: None)


def _eviction(length: int) -> float:
    """An urgent request takes the place of the newest request of a lower class."""
    admission, _, waiting = _filled(length, max_waiting=length)
    entered: list[Ticket] = []

    def evict() -> None:
        entered.append(admission.enter(Criticality.URGENT))

    def refill() -> None:
        admission.leave(entered.pop())
        waiting.pop()
        waiting.append(_enter(admission, COSTS[len(waiting) % len(COSTS)]))
        waiting[-1].queue()

    return _median_microseconds(evict, refill)


def _admission(length: int) -> float:
    """A request gets a ticket and joins the queue."""
    admission, _, _ = _filled(length, max_waiting=length + 1)
    admitted: list[Request] = []

    def admit() -> None:
        admitted.append(_enter(admission, COSTS[0]))
        admitted[-1].queue()

    return _median_microseconds(admit, lambda: admission.leave(admitted.pop().ticket))


def _dispatch(length: int) -> float:
    """A render ends, and the next request in turn gets its worker."""
    admission, running, waiting = _filled(length, max_waiting=length + 1)

    def end() -> None:
        admission.end(running[0].ticket)

    def refill() -> None:
        running.pop(0)
        started = next(request for request in waiting if request.ticket.started is not None)
        waiting.remove(started)
        running.append(started)
        waiting.append(_enter(admission, COSTS[len(waiting) % len(COSTS)]))
        waiting[-1].queue()

    return _median_microseconds(end, refill)


def _filled(length: int, *, max_waiting: int) -> tuple[Admission, list[Request], list[Request]]:
    """An admission with all workers taken, the running requests, and `length` waiting ones."""
    settings = AdmissionSettings(max_waiting=max_waiting, deadline_seconds=600, max_decoded_bytes=1 << 40)
    admission = Admission(settings, pool=IdlePool())
    requests = [_enter(admission, COSTS[number % len(COSTS)]) for number in range(WORKERS + length)]
    for request in requests:
        request.queue()
    return admission, requests[:WORKERS], requests[WORKERS:]


def _enter(admission: Admission, cost: Cost) -> Request:
    ticket = admission.enter()
    return Request(ticket, admission.turn(ticket, cost))


def _median_microseconds(call: Callable[[], None], after: Callable[[], None]) -> float:
    """Of `call` alone; `after` restores the length of the queue."""
    times = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
        after()
    return statistics.median(times) * 1e6
