"""Degraded renditions while many requests wait. They are never cached under the keys of the requested renditions."""

import asyncio

import pytest

from imgserver.plan.plan import ImageRequest, Output, Plan, SourceRef
from imgserver.rendering.admission import Admission, AdmissionSettings, Criticality
from imgserver.rendering.cost import Cost
from imgserver.rendering.degradation import DegradationLevel
from tests.free_workers import FreeWorkers
from tests.service_scenario import Scenario

IMAGE_REQUEST = ImageRequest(SourceRef("photos", "cat.png"), Plan(output=Output("auto")))


@pytest.fixture
async def scenario():
    scenario = Scenario()
    yield scenario
    await scenario.service.flights.close()


def request_of(scenario: Scenario, *offers: str):
    return scenario.service.pipeline_version.render_request(IMAGE_REQUEST, offers)


def set_pressure(scenario: Scenario, pressure: float) -> None:
    scenario.service.renderer.admission.pressure = lambda _, *, client: pressure


async def test_without_pressure_nothing_is_degraded(scenario):
    assert (await scenario.service.get(request_of(scenario, "avif", "webp"))).level is DegradationLevel.NONE


@pytest.mark.parametrize(
    ("pressure", "level"),
    [(0.6, DegradationLevel.EFFORT), (1.2, DegradationLevel.FORMAT), (2.0, DegradationLevel.PLAIN)],
)
async def test_under_pressure_a_degraded_rendition_is_served_and_afterwards_the_requested_one(
    scenario, pressure, level
):
    request = request_of(scenario, "avif", "webp")
    set_pressure(scenario, pressure)
    first, again = await scenario.service.get(request), await scenario.service.get(request)
    set_pressure(scenario, 0.0)
    after = await scenario.service.get(request)

    assert (first.level, first.outcome) == (level, "rendered")
    # It is cached under its own key: a flood renders it once.
    assert (again.level, again.outcome, again.rendition) == (level, "hit", first.rendition)
    assert (after.level, after.outcome) == (DegradationLevel.NONE, "rendered")
    assert after.rendition.body != first.rendition.body
    assert scenario.service.degradation.counts[level] == 2


async def test_a_cached_rendition_is_served_under_any_pressure(scenario):
    request = request_of(scenario, "avif", "webp")
    full = await scenario.service.get(request)
    set_pressure(scenario, 9.0)

    assert (await scenario.service.get(request)).rendition == full.rendition


async def test_a_request_under_pressure_joins_the_full_render_in_flight(scenario):
    scenario.workers.held = asyncio.Event()
    request = request_of(scenario, "avif", "webp")
    leader = asyncio.ensure_future(scenario.service.get(request))
    await scenario.workers.begun.wait()
    set_pressure(scenario, 9.0)
    follower = asyncio.ensure_future(scenario.service.get(request))
    await asyncio.sleep(0)
    scenario.workers.held.set()
    await asyncio.gather(leader, follower)

    assert follower.result().level is DegradationLevel.NONE
    assert (follower.result().outcome, scenario.workers.renders) == ("joined", 1)


async def test_a_degraded_request_hits_the_rendition_of_a_client_with_fewer_formats(scenario):
    webp = await scenario.service.get(request_of(scenario, "webp"))
    set_pressure(scenario, 1.2)
    served = await scenario.service.get(request_of(scenario, "avif", "webp"))

    assert (served.level, served.outcome, served.rendition) == (DegradationLevel.FORMAT, "hit", webp.rendition)


@pytest.mark.parametrize(("degrade", "expected"), [(True, 2.0), (False, 0.0)])
def test_pressure_is_the_predicted_wait_divided_by_a_quarter_of_the_deadline(degrade, expected):
    admission = Admission(
        AdmissionSettings(deadline_seconds=4, degrade=degrade), pool=FreeWorkers(1), clock=lambda: 0.0
    )
    waiting = admission.enter()
    waiting.cost = Cost(2.0)
    admission._queue.enqueue(waiting)

    assert admission.pressure(Criticality.NORMAL) == pytest.approx(expected)
