"""Cheaper pictures while many wait: in the place of those asked for, and never under their keys."""

import asyncio

import pytest

from imgserver.plan.plan import ImageRequest, Output, Plan, SourceRef
from imgserver.rendering.admission import Admission, AdmissionSettings, Criticality
from imgserver.rendering.cost import Cost
from imgserver.rendering.degradation import DegradationLevel
from tests.free_workers import FreeWorkers
from tests.test_service import Scene

WISH = ImageRequest(SourceRef("photos", "cat.png"), Plan(output=Output("auto")))


@pytest.fixture
async def scene():
    scene = Scene()
    yield scene
    await scene.service.flights.close()


def order_of(scene: Scene, *offers: str):
    return scene.service.pipeline_version.render_request(WISH, offers)


def press(scene: Scene, pressure: float) -> None:
    scene.service.renderer.admission.pressure = lambda _: pressure


async def test_without_pressure_nothing_is_left_out(scene):
    assert (await scene.service.get(order_of(scene, "avif", "webp"))).level is DegradationLevel.NONE


@pytest.mark.parametrize(
    ("pressure", "level"),
    [(0.6, DegradationLevel.EFFORT), (1.2, DegradationLevel.FORMAT), (2.0, DegradationLevel.PLAIN)],
)
async def test_under_pressure_another_picture_is_made_and_the_one_asked_for_afterwards(scene, pressure, level):
    order = order_of(scene, "avif", "webp")
    press(scene, pressure)
    first, again = await scene.service.get(order), await scene.service.get(order)
    press(scene, 0.0)
    after = await scene.service.get(order)

    assert (first.level, first.outcome) == (level, "rendered")
    # Kept under its own key: the flood renders it once.
    assert (again.level, again.outcome, again.rendition) == (level, "hit", first.rendition)
    assert (after.level, after.outcome) == (DegradationLevel.NONE, "rendered")
    assert after.rendition.body != first.rendition.body
    assert scene.service.degradation.counts[level] == 2


async def test_a_kept_picture_is_answered_as_it_is_under_any_pressure(scene):
    order = order_of(scene, "avif", "webp")
    whole = await scene.service.get(order)
    press(scene, 9.0)

    assert (await scene.service.get(order)).rendition == whole.rendition


async def test_who_comes_under_pressure_joins_the_whole_picture_when_it_is_being_made(scene):
    scene.hands.held = asyncio.Event()
    order = order_of(scene, "avif", "webp")
    leader = asyncio.ensure_future(scene.service.get(order))
    await scene.hands.begun.wait()
    press(scene, 9.0)
    follower = asyncio.ensure_future(scene.service.get(order))
    await asyncio.sleep(0)
    scene.hands.held.set()
    await asyncio.gather(leader, follower)

    assert follower.result().level is DegradationLevel.NONE
    assert (follower.result().outcome, scene.hands.renders) == ("joined", 1)


async def test_the_cheaper_picture_is_the_one_of_clients_with_fewer_formats(scene):
    webp = await scene.service.get(order_of(scene, "webp"))
    press(scene, 1.2)
    served = await scene.service.get(order_of(scene, "avif", "webp"))

    assert (served.level, served.outcome, served.rendition) == (DegradationLevel.FORMAT, "hit", webp.rendition)


@pytest.mark.parametrize(("degrade", "expected"), [(True, 2.0), (False, 0.0)])
def test_pressure_is_the_predicted_wait_as_a_share_of_a_quarter_of_the_deadline(degrade, expected):
    admission = Admission(
        AdmissionSettings(deadline_seconds=4, degrade=degrade), pool=FreeWorkers(1), clock=lambda: 0.0
    )
    waiting = admission.enter()
    waiting.cost = Cost(2.0)
    admission._queue.enqueue(waiting)

    assert admission.pressure(Criticality.NORMAL) == pytest.approx(expected)
