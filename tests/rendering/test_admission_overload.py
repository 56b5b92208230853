"""Fault 17 in virtual time: ten times more than two slots can do, for a minute, then quiet."""

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field
from statistics import quantiles

from imgserver.errors import Overloaded
from imgserver.rendering.admission import Admission, AdmissionSettings, Criticality
from imgserver.rendering.cost import Cost
from tests.free_workers import FreeWorkers

SLOTS = 2
RENDER_SECONDS = 0.1
CAPACITY = SLOTS / RENDER_SECONDS
MINUTE = 60.0


@dataclass
class World:
    """Virtual time: arrivals and ends of renders happen in order, and the event loop settles in between."""

    settings: AdmissionSettings
    estimate: float
    now: float = 0.0
    served: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admission = Admission(self.settings, pool=FreeWorkers(SLOTS), clock=lambda: self.now)
        self.events: list[tuple[float, int, asyncio.Event]] = []
        self.order = itertools.count()

    async def visit(self, criticality: Criticality) -> None:
        began = self.now
        try:
            with self.admission.enter(criticality) as ticket:
                async with ticket.slot(Cost(self.estimate)):
                    end = asyncio.Event()
                    heapq.heappush(self.events, (self.now + RENDER_SECONDS, next(self.order), end))
                    await end.wait()
        except Overloaded as error:
            self.refused.append((began, error.facts["reason"]))
        else:
            self.served.append((began, self.now - began))

    async def run(self, arrivals: list[tuple[float, Criticality]]) -> None:
        tasks = []
        for time, criticality in arrivals:
            await self.advance(time)
            tasks.append(asyncio.ensure_future(self.visit(criticality)))
            await self.settle()
        await self.advance(arrivals[-1][0] + 60)
        await asyncio.gather(*tasks)

    async def advance(self, until: float) -> None:
        while self.events and self.events[0][0] <= until:
            self.now, _, end = heapq.heappop(self.events)
            end.set()
            await self.settle()
        self.now = until

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)


def at_rate(rate: float, *, start: float, seconds: float, kind=Criticality.NORMAL) -> list[tuple[float, Criticality]]:
    return [(start + number / rate, kind) for number in range(int(rate * seconds))]


async def overload(*, estimate: float) -> World:
    world = World(AdmissionSettings(), estimate=estimate)
    arrivals = at_rate(10 * CAPACITY, start=0, seconds=MINUTE)
    arrivals += at_rate(CAPACITY / 4, start=MINUTE, seconds=20)
    await world.run(arrivals)
    return world


async def test_ten_times_overload_keeps_goodput_and_the_deadline():
    for estimate in (RENDER_SECONDS, RENDER_SECONDS / 3, RENDER_SECONDS * 3):
        world = await overload(estimate=estimate)
        during = [latency for began, latency in world.served if began < MINUTE]
        after = [latency for began, latency in world.served if began > MINUTE + 5]

        assert len(during) >= 0.8 * CAPACITY * MINUTE
        assert quantiles(during, n=100)[98] <= world.settings.deadline_seconds
        assert len(after) == CAPACITY / 4 * 15 - 1
        assert max(after) < 1
        assert not [began for began, _ in world.refused if began > MINUTE + 5]


async def test_all_refusals_under_overload_are_made_at_the_door():
    world = await overload(estimate=RENDER_SECONDS)

    assert {reason for _, reason in world.refused} == {"predicted_wait"}


async def test_under_lasting_overload_waits_stay_well_below_the_deadline():
    world = await overload(estimate=RENDER_SECONDS)
    lasting = [latency for began, latency in world.served if 15 < began < MINUTE]

    assert max(lasting) < 0.3 * world.settings.deadline_seconds


async def test_the_urgent_are_served_through_an_overload_of_the_others():
    world = World(AdmissionSettings(), estimate=RENDER_SECONDS)
    arrivals = at_rate(5 * CAPACITY, start=0, seconds=20)
    arrivals += at_rate(CAPACITY / 4, start=0.0037, seconds=20, kind=Criticality.URGENT)
    await world.run(sorted(arrivals))
    refused = sum(time in {time for time, kind in arrivals if kind is Criticality.URGENT} for time, _ in world.refused)

    assert refused == 0


async def test_a_burst_that_can_be_served_is_served_in_full():
    """A gallery of ninety pictures: four and a half seconds of work for two slots."""
    world = World(AdmissionSettings(), estimate=RENDER_SECONDS)
    await world.run(at_rate(1000, start=0, seconds=0.09))

    assert len(world.served) == 90
