"""Fault 17 in virtual time: ten times the capacity of two workers for a minute, then a quarter of it."""

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field
from statistics import median, quantiles

from imgserver.errors import Overloaded
from imgserver.rendering.admission import Admission, AdmissionSettings, Criticality
from imgserver.rendering.cost import Cost
from tests.free_workers import FreeWorkers

SLOTS = 2
RENDER_SECONDS = 0.1
CAPACITY = SLOTS / RENDER_SECONDS
MINUTE = 60.0

Arrival = tuple[float, Criticality, str]


@dataclass
class Simulation:
    """Virtual time: arrivals and ends of renders happen in order, and the event loop runs in between."""

    settings: AdmissionSettings
    estimate: float
    now: float = 0.0
    answers: list[tuple[str, float, float]] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admission = Admission(self.settings, pool=FreeWorkers(SLOTS), clock=lambda: self.now)
        self.events: list[tuple[float, int, asyncio.Event]] = []
        self.order = itertools.count()

    @property
    def served(self) -> list[tuple[float, float]]:
        """When each request was sent, and the seconds until it was served."""
        return [(began, seconds) for _, began, seconds in self.answers]

    def served_to(self, client: str) -> list[tuple[float, float]]:
        return [(began, seconds) for name, began, seconds in self.answers if name == client]

    async def send(self, criticality: Criticality, client: str) -> None:
        began = self.now
        try:
            with self.admission.enter(criticality, client=client) as ticket:
                async with ticket.slot(Cost(self.estimate)):
                    end = asyncio.Event()
                    heapq.heappush(self.events, (self.now + RENDER_SECONDS, next(self.order), end))
                    await end.wait()
        except Overloaded as error:
            self.refused.append((began, error.facts["reason"]))
        else:
            self.answers.append((client, began, self.now - began))

    async def run(self, arrivals: list[Arrival]) -> None:
        tasks = []
        for time, criticality, client in arrivals:
            await self.advance(time)
            tasks.append(asyncio.ensure_future(self.send(criticality, client)))
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


def at_rate(
    rate: float, *, start: float, seconds: float, criticality=Criticality.NORMAL, client: str = ""
) -> list[Arrival]:
    return [(start + number / rate, criticality, client) for number in range(int(rate * seconds))]


async def overload(*, estimate: float) -> Simulation:
    simulation = Simulation(AdmissionSettings(), estimate=estimate)
    arrivals = at_rate(10 * CAPACITY, start=0, seconds=MINUTE)
    arrivals += at_rate(CAPACITY / 4, start=MINUTE, seconds=20)
    await simulation.run(arrivals)
    return simulation


async def test_ten_times_overload_keeps_goodput_and_the_deadline():
    for estimate in (RENDER_SECONDS, RENDER_SECONDS / 3, RENDER_SECONDS * 3):
        simulation = await overload(estimate=estimate)
        during = [latency for began, latency in simulation.served if began < MINUTE]
        after = [latency for began, latency in simulation.served if began > MINUTE + 5]

        assert len(during) >= 0.8 * CAPACITY * MINUTE
        assert quantiles(during, n=100)[98] <= simulation.settings.deadline_seconds
        assert len(after) == CAPACITY / 4 * 15 - 1
        assert max(after) < 1
        assert not [began for began, _ in simulation.refused if began > MINUTE + 5]


async def test_under_overload_requests_are_refused_before_they_wait():
    simulation = await overload(estimate=RENDER_SECONDS)

    assert {reason for _, reason in simulation.refused} == {"predicted_wait"}


async def test_under_lasting_overload_the_median_wait_is_half_of_the_deadline():
    simulation = await overload(estimate=RENDER_SECONDS)
    lasting = [latency for began, latency in simulation.served if 15 < began < MINUTE]

    assert median(lasting) < 0.55 * simulation.settings.deadline_seconds


async def test_waits_are_short_again_two_seconds_after_an_overload():
    simulation = await overload(estimate=RENDER_SECONDS)
    after = [latency for began, latency in simulation.served if began > MINUTE + 2]

    assert max(after) < 3 * RENDER_SECONDS


async def test_a_client_is_served_within_a_render_while_another_floods():
    """One request at a time, twice a second, while the other client sends ten times the capacity."""
    simulation = Simulation(AdmissionSettings(), estimate=RENDER_SECONDS)
    flood = at_rate(10 * CAPACITY, start=0, seconds=20)
    visits = at_rate(2, start=0.0037, seconds=20, client="visitor")
    await simulation.run(sorted([*flood, *visits]))

    waits = [latency for _, latency in simulation.served_to("visitor")]
    assert len(waits) == len(visits)
    assert max(waits) <= 2.1 * RENDER_SECONDS
    assert len(simulation.served) >= 0.95 * CAPACITY * 20


async def test_clients_that_all_send_too_much_get_equal_shares():
    simulation = Simulation(AdmissionSettings(), estimate=RENDER_SECONDS)
    arrivals = [
        *at_rate(6 * CAPACITY, start=0, seconds=20, client="large"),
        *at_rate(2 * CAPACITY, start=0.001, seconds=20, client="small"),
    ]
    await simulation.run(sorted(arrivals))

    large, small = (len(simulation.served_to(client)) for client in ("large", "small"))
    assert large + small >= CAPACITY * 20
    assert small >= 0.8 * large


async def test_urgent_requests_are_served_during_an_overload_of_others():
    simulation = Simulation(AdmissionSettings(), estimate=RENDER_SECONDS)
    arrivals = at_rate(5 * CAPACITY, start=0, seconds=20)
    arrivals += at_rate(CAPACITY / 4, start=0.0037, seconds=20, criticality=Criticality.URGENT)
    await simulation.run(sorted(arrivals))
    refused = sum(
        time in {time for time, criticality, _ in arrivals if criticality is Criticality.URGENT}
        for time, _ in simulation.refused
    )

    assert refused == 0


async def test_a_burst_within_the_capacity_is_served_completely():
    """A gallery of ninety images: four and a half seconds of work for two workers."""
    simulation = Simulation(AdmissionSettings(), estimate=RENDER_SECONDS)
    await simulation.run(at_rate(1000, start=0, seconds=0.09))

    assert len(simulation.served) == 90
