"""The story of one picture, with a source and workers that do what they are told."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from imgserver import service
from imgserver.cache import build_cache
from imgserver.cache.cache_tags import groups_of, source_group
from imgserver.cache.memory import MemorySettings
from imgserver.cache.negative import NegativeCache
from imgserver.engine.job import Limits, Quality, RenderResult, Timings
from imgserver.errors import (
    BrokenImage,
    DeadlineExceeded,
    ImgserverError,
    NotFound,
    NotInThisBuild,
    Overloaded,
    ServerFault,
    SourceFailed,
    Unavailable,
    WorkerLost,
)
from imgserver.plan.plan import Dims, ImageRequest, Plan, SourceRef
from imgserver.plan.rendition import Fingerprint, Original
from imgserver.rendering import renderer
from imgserver.rendering.admission import Admission, AdmissionSettings
from imgserver.rendering.cost import CostModel
from imgserver.rendering.degradation import Degradation
from imgserver.rendering.renderer import FINGERPRINT_TTL_SECONDS, Renderer
from imgserver.rendering.variants import PipelineVersion, RenderRequest
from imgserver.runtime.background import BackgroundRefresh
from imgserver.runtime.single_flight import SingleFlight
from imgserver.runtime.ttl_map import TtlMap
from imgserver.security.rate_limit import Quota, QuotaSettings
from imgserver.service import ImageService
from imgserver.sources.config import OriginCacheSettings
from imgserver.sources.origin_cache.origin_cache import OriginCache
from imgserver.testing import FakeOrigin, make_rendition
from tests.free_workers import FreeWorkers
from tests.polling import eventually

ORDER = RenderRequest("key", SourceRef("photos", "cat.png"), Plan())


class Shelf:
    """A source of one picture, of a state that tests change."""

    def __init__(self) -> None:
        self.state: int | None = 1
        self.hangs = False
        self.fault: Exception | None = None
        self.away: asyncio.Event | None = None
        self.opened = self.looked = self.brought = 0

    async def fetch(self, path: str) -> None:
        self.brought += 1
        if self.away is not None:
            await self.away.wait()

    @asynccontextmanager
    async def open(self, path: str):
        self.opened += 1
        yield Original("/nowhere", b"", await self._fingerprint(), size_bytes=4, modified=7)

    async def fingerprint(self, path: str) -> Fingerprint:
        self.looked += 1
        return await self._fingerprint()

    async def _fingerprint(self) -> Fingerprint:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        if self.state is None:
            raise NotFound()
        return Fingerprint(f"state {self.state}")


class Hands(FreeWorkers):
    """Workers that answer at once, with a body that counts."""

    def __init__(self) -> None:
        super().__init__(2)
        self.renders = 0
        self.time_left = 0.0
        self.fault: Exception | None = None
        self.begun = asyncio.Event()
        self.held: asyncio.Event | None = None
        self._turned = asyncio.Condition()

    async def rendered(self, count: int) -> None:
        async with self._turned:
            await self._turned.wait_for(lambda: self.renders >= count)

    async def render(self, job, *, ticket, cost, key: str) -> RenderResult:
        async with ticket.slot(cost):
            return await self._render(ticket.deadline)

    async def _render(self, deadline: float) -> RenderResult:
        async with self._turned:
            self.renders += 1
            self._turned.notify_all()
        number = self.renders
        self.time_left = deadline - time.monotonic()
        self.begun.set()
        if self.held is not None:
            await self.held.wait()
        if self.fault is not None:
            raise self.fault
        body = str(number).encode()
        return RenderResult(body, "image/png", "0" * 32, Dims(1, 1), "png", Dims(1, 1), 4, Timings(cpu_seconds=0.01))


class Scene:
    def __init__(self, per_minute: int = 0, burst: int = 40, **queue) -> None:
        self.now = 0.0
        self.shelf, self.far, self.hands, self.seen, self.failed = Shelf(), Shelf(), Hands(), [], []
        renderer = Renderer(
            sources={"photos": self.shelf, "far": self.far},
            fingerprints=TtlMap(FINGERPRINT_TTL_SECONDS, clock=lambda: self.now),
            admission=Admission(AdmissionSettings(**queue), pool=self.hands),
            workers=self.hands,
            costs=CostModel(),
            limits=Limits(),
            quality=Quality(),
            observe=self.seen.append,
            observe_failure=lambda work, error: self.failed.append(error),
        )
        self.service = ImageService(
            cache=build_cache(MemorySettings()),
            flights=SingleFlight(),
            renderer=renderer,
            background=BackgroundRefresh(),
            pipeline_version=PipelineVersion.of(Quality()),
            quota=Quota(QuotaSettings(per_minute, burst), lambda: self.now),
            negative_cache=NegativeCache(lambda: self.now),
            degradation=Degradation(),
            fresh_seconds=3600.0,
        )

    async def get(self, order: RenderRequest = ORDER) -> tuple[str, bytes]:
        served = await self.service.get(order)
        return served.outcome, served.rendition.body

    async def refused(self, order: RenderRequest = ORDER) -> ImgserverError:
        with pytest.raises(ImgserverError) as caught:
            await self.service.get(order)
        return caught.value

    async def put_stale(self) -> None:
        seen = await self.shelf.fingerprint("cat.png")
        self.service.cache.put(ORDER.key, make_rendition(b"old", fingerprint=seen, fresh_until=1.0))

    def let_looks_grow_old(self) -> None:
        self.now += FINGERPRINT_TTL_SECONDS + 0.1


@pytest.fixture
async def scene():
    scene = Scene()
    yield scene
    await scene.service.flights.close()


async def test_a_picture_is_rendered_once_and_then_kept(scene):
    assert await scene.get() == ("rendered", b"1")
    assert await scene.get() == ("hit", b"1")
    assert len(scene.seen) == scene.shelf.opened == 1


async def test_a_picture_is_at_hand_while_its_original_was_seen_a_moment_ago(scene):
    await scene.get()

    assert scene.service.get_fresh(ORDER).body == b"1"
    assert scene.shelf.looked == 0
    scene.let_looks_grow_old()
    assert scene.service.get_fresh(ORDER) is None


async def test_a_changed_original_is_rendered_anew(scene):
    await scene.get()
    scene.shelf.state = 2
    scene.let_looks_grow_old()

    assert await scene.get() == ("rendered", b"2")


async def test_a_vanished_originals_picture_is_forgotten(scene):
    await scene.get()
    scene.shelf.state = None
    scene.let_looks_grow_old()

    with pytest.raises(NotFound):
        await scene.get()
    assert scene.service.cache.statistics().tiers["memory"].entries == 0


async def test_visitors_of_one_cold_picture_join(scene):
    results = await asyncio.gather(*(scene.get() for _ in range(5)))

    assert sorted(outcome for outcome, _ in results) == ["joined"] * 4 + ["rendered"]
    assert scene.hands.renders == 1


async def test_a_failure_of_ours_is_not_remembered_and_gives_back_place_and_slot(scene):
    scene.hands.fault = WorkerLost()
    with pytest.raises(WorkerLost):
        await scene.get()
    scene.hands.fault = None

    assert await scene.get() == ("rendered", b"2")
    queue = scene.service.renderer.admission.statistics()
    assert (queue.waiting, queue.running, queue.admitted) == (0, 0, 2)


async def test_a_source_that_hangs_ends_at_the_deadline():
    scene = Scene(deadline_seconds=0.1)
    scene.shelf.hangs = True

    with pytest.raises(DeadlineExceeded):
        await scene.get()
    assert scene.service.renderer.admission.statistics().waiting == 0
    await scene.service.flights.close()


async def test_a_kept_picture_is_answered_while_its_source_hangs(scene, monkeypatch):
    monkeypatch.setattr(renderer, "FINGERPRINT_SECONDS", 0.05)
    await scene.get()
    scene.let_looks_grow_old()
    scene.shelf.hangs = True

    assert await asyncio.wait_for(scene.get(), 5) == ("hit", b"1")


async def test_an_original_that_was_seen_a_moment_ago_is_not_looked_at_again(scene):
    await scene.get()
    assert await scene.get() == ("hit", b"1")
    assert scene.shelf.looked == 0
    scene.let_looks_grow_old()
    assert await scene.get() == ("hit", b"1")
    assert scene.shelf.looked == 1


async def test_a_picture_is_not_looked_up_as_missing_twice(scene):
    assert scene.service.get_fresh(ORDER) is None
    await scene.get()

    assert scene.service.cache.statistics().tiers["memory"].misses == 1


@pytest.mark.parametrize(
    "changes", [{"fresh_until": 1.0}, {"fingerprint": Fingerprint("another")}], ids=["stale", "changed"]
)
async def test_a_kept_picture_that_is_looked_up_twice_for_one_answer_is_counted_once(scene, changes):
    await scene.get()
    kept = scene.service.cache.get_fresh(ORDER.key)
    scene.service.cache.put(ORDER.key, replace(kept, **changes))
    before = scene.service.cache.statistics().tiers["memory"].hits
    assert scene.service.get_fresh(ORDER) is None
    await scene.get()

    assert scene.service.cache.statistics().tiers["memory"].hits == before + 1


async def test_a_purge_during_a_render_wins(scene):
    order = RenderRequest(ORDER.key, ORDER.ref, ORDER.plan, groups_of(ORDER.ref, key=ORDER.key))
    scene.hands.held = asyncio.Event()
    making = asyncio.create_task(scene.service.get(order))
    await asyncio.wait_for(scene.hands.begun.wait(), 5)
    await scene.service.cache.purge([source_group(order.ref)])
    after = asyncio.create_task(scene.service.get(order))
    await asyncio.sleep(0)
    scene.hands.held.set()

    assert (await making).rendition.body != (await after).rendition.body
    kept = await scene.service.get(order)
    assert (kept.outcome, kept.rendition.body) == ("hit", (await after).rendition.body)


async def test_a_stale_picture_is_answered_and_renewed_behind(scene):
    seen = await scene.shelf.fingerprint("cat.png")
    scene.service.cache.put(ORDER.key, make_rendition(b"old", fingerprint=seen, fresh_until=1.0))

    assert await scene.get() == ("stale", b"old")
    await asyncio.wait_for(scene.hands.rendered(1), 5)


async def test_a_request_draws_once_whether_it_is_the_one_to_renew(scene, monkeypatch):
    """The shortcut, the handler and the service all ask, and a draw each would make renewals as rare as its cube."""
    seen = await scene.shelf.fingerprint("cat.png")
    scene.service.cache.put(ORDER.key, make_rendition(b"old", fingerprint=seen, fresh_until=time.time() + 1000))
    await scene.get()
    assert scene.service.get_fresh(ORDER).body == b"old"
    draws = []
    monkeypatch.setattr(service, "_is_due", lambda _: not draws and not draws.append(1))

    assert [scene.service.get_fresh(ORDER), scene.service.get_fresh(ORDER)] == [None, None]
    assert await scene.get() == ("hit", b"old")
    await asyncio.wait_for(scene.hands.rendered(1), 5)
    assert len(draws) == 1


def test_a_key_depends_on_the_quality_settings():
    def key(quality: Quality) -> str:
        request = ImageRequest(SourceRef("photos", "cat.png"), Plan())
        return PipelineVersion.of(quality).render_request(request, ()).key

    assert key(Quality()) == key(Quality())
    assert key(Quality()) != key(Quality(linear_light=True))


async def test_a_flood_of_a_broken_picture_costs_one_render(scene):
    scene.hands.fault = BrokenImage("torn")

    faults = [await scene.refused() for _ in range(50)]

    assert {(type(fault), fault.detail) for fault in faults} == {(BrokenImage, "torn")}
    assert (scene.hands.renders, scene.shelf.opened, scene.shelf.looked) == (1, 1, 0)
    assert scene.service.negative_cache.statistics().hits == 49


async def test_a_flood_of_an_absent_original_costs_one_look_whatever_is_asked_of_it(scene):
    scene.shelf.state = None

    for number in range(50):
        assert isinstance(await scene.refused(RenderRequest(f"key {number}", ORDER.ref, ORDER.plan)), NotFound)

    assert scene.shelf.opened + scene.shelf.looked == 1


async def test_what_appears_is_seen_after_a_second(scene):
    scene.shelf.state = None
    await scene.refused()
    scene.shelf.state = 1
    scene.now += 1.0

    assert await scene.get() == ("rendered", b"1")


async def test_an_absence_holds_no_longer_for_being_asked_after_again(scene):
    scene.shelf.state = None
    for _ in range(5):
        await scene.refused()
        scene.now += 1.0
    scene.shelf.state = 1

    assert await scene.get() == ("rendered", b"1")


async def test_a_repaired_original_is_rendered_within_a_second_however_often_it_had_failed(scene):
    scene.hands.fault = BrokenImage()
    for _ in range(6):
        await scene.refused()
        scene.now += 40.0
    await scene.refused()
    scene.hands.fault, scene.shelf.state = None, 2
    assert isinstance(await scene.refused(), BrokenImage)
    scene.let_looks_grow_old()

    assert (await scene.get())[0] == "rendered"


async def test_a_broken_picture_is_tried_again_ever_more_rarely(scene):
    scene.hands.fault = BrokenImage()
    for _ in range(600):
        await scene.refused()
        scene.now += 1.0

    # After 0, 1, 3, 7 ... 511 seconds.
    assert scene.hands.renders == 10


@pytest.mark.parametrize("fault", [ServerFault(), Unavailable(), Overloaded(), DeadlineExceeded(), NotInThisBuild()])
async def test_our_own_faults_are_never_remembered(scene, fault):
    scene.hands.fault = fault
    await scene.refused()
    await scene.refused()

    assert scene.hands.renders == 2
    assert scene.service.negative_cache.statistics().entries == 0


@pytest.mark.parametrize("state", [1, None])
async def test_a_purge_makes_a_refusal_void(scene, state):
    order = RenderRequest(ORDER.key, ORDER.ref, ORDER.plan, groups_of(ORDER.ref, key=ORDER.key))
    scene.hands.fault, scene.shelf.state = BrokenImage(), state
    await scene.refused(order)
    scene.hands.fault, scene.shelf.state = None, 1
    await scene.service.cache.purge([source_group(order.ref)])

    assert (await scene.get(order))[0] == "rendered"


async def test_a_known_refusal_is_repeated_while_the_source_is_away(scene):
    scene.hands.fault = BrokenImage()
    await scene.refused()
    scene.now += 1.0
    await scene.refused()
    scene.now += 1.5
    scene.shelf.fault = Unavailable()

    assert isinstance(await scene.refused(), BrokenImage)


@pytest.mark.parametrize("fault", [Overloaded(), WorkerLost(), DeadlineExceeded()])
async def test_a_stale_picture_is_answered_while_nothing_can_be_rendered(scene, fault):
    await scene.put_stale()
    scene.hands.fault = fault

    for _ in range(3):
        assert await scene.get() == ("stale", b"old")


async def test_a_stale_picture_is_answered_while_the_waiting_room_is_closed(scene):
    await scene.put_stale()
    scene.service.renderer.admission.drain()

    assert await scene.get() == ("stale", b"old")


@pytest.mark.parametrize("fault", [Unavailable(), SourceFailed(), DeadlineExceeded()])
async def test_a_stale_picture_is_answered_while_its_source_is_away(scene, fault):
    await scene.put_stale()
    scene.shelf.fault = fault
    scene.let_looks_grow_old()

    assert await scene.get() == ("stale", b"old")


@pytest.mark.parametrize("fault", [Overloaded(), WorkerLost(), SourceFailed(), DeadlineExceeded()])
async def test_the_picture_of_before_is_answered_while_the_new_one_cannot_be_made(scene, fault):
    await scene.get()
    scene.shelf.state, scene.hands.fault = 2, fault
    scene.let_looks_grow_old()

    assert await scene.get() == ("stale", b"1")
    assert scene.service.get_fresh(ORDER) is None
    scene.hands.fault = None
    assert await scene.get() == ("rendered", b"3")
    assert await scene.get() == ("hit", b"3")


@pytest.mark.parametrize("fault", [BrokenImage(), ServerFault()])
async def test_other_faults_of_a_changed_original_are_told(scene, fault):
    await scene.get()
    scene.shelf.state, scene.hands.fault = 2, fault
    scene.let_looks_grow_old()

    assert type(await scene.refused()) is type(fault)


async def test_a_purged_picture_is_not_answered_though_nothing_can_be_rendered(scene):
    order = RenderRequest(ORDER.key, ORDER.ref, ORDER.plan, groups_of(ORDER.ref, key=ORDER.key))
    await scene.get(order)
    scene.shelf.state, scene.hands.fault, scene.hands.held = 2, WorkerLost(), asyncio.Event()
    scene.hands.begun.clear()
    scene.let_looks_grow_old()
    asking = asyncio.create_task(scene.service.get(order))
    await asyncio.wait_for(scene.hands.begun.wait(), 5)
    await scene.service.cache.purge([source_group(order.ref)])
    scene.hands.held.set()

    with pytest.raises(WorkerLost):
        await asking


async def test_a_stale_picture_that_cannot_be_renewed_is_not_tried_at_each_request(scene):
    await scene.put_stale()
    scene.hands.fault = BrokenImage()
    await scene.get()
    await eventually(lambda: scene.service.background.statistics().failed == 1)
    for _ in range(5):
        assert await scene.get() == ("stale", b"old")

    assert scene.service.background.statistics().started == 1


async def test_a_record_from_before_a_tags_rule_is_made_anew(scene):
    untagged = RenderRequest(ORDER.key, ORDER.ref, ORDER.plan, groups_of(ORDER.ref, key=ORDER.key))
    tagged = RenderRequest(ORDER.key, ORDER.ref, ORDER.plan, groups_of(ORDER.ref, key=ORDER.key, tags=["summer"]))
    await scene.get(untagged)
    scene.let_looks_grow_old()

    assert await scene.get(tagged) == ("rendered", b"2")
    assert await scene.get(tagged) == ("hit", b"2")


async def test_who_waited_for_a_picture_is_told_its_stages_and_who_hits_its_tier(scene):
    made = await scene.service.get(ORDER)
    hit = await scene.service.get(ORDER)

    assert made.rendition.stages is not None
    assert (made.tier, hit.tier) == ("", "memory")


# Far originals


def far_order(number: int) -> RenderRequest:
    return RenderRequest(f"far {number}", SourceRef("far", f"{number}.png"), Plan())


async def waiting_for_far(scene, count: int) -> list[asyncio.Task]:
    scene.far.away = asyncio.Event()
    tasks = [asyncio.create_task(scene.service.get(far_order(number))) for number in range(count)]
    await eventually(lambda: scene.far.brought == count)
    return tasks


async def test_who_waits_for_a_slow_origin_takes_no_place_in_the_waiting_room():
    scene = Scene(max_waiting=4)
    far = await waiting_for_far(scene, 100)

    queue = scene.service.renderer.admission.statistics()
    assert (queue.waiting, queue.running, queue.predicted_wait_seconds) == (0, 0, 0.0)
    assert await asyncio.wait_for(scene.get(), 1) == ("rendered", b"1")
    assert await asyncio.wait_for(scene.get(), 1) == ("hit", b"1")
    for task in far:
        task.cancel()
    await asyncio.wait(far)
    await scene.service.flights.close()


async def test_who_would_be_refused_does_not_have_an_original_brought(scene):
    scene.service.renderer.admission.drain()

    with pytest.raises(Overloaded):
        await scene.service.get(far_order(1))
    assert scene.far.brought == 0


async def test_bringing_an_original_counts_into_the_deadline():
    scene, begun = Scene(deadline_seconds=0.3), time.monotonic()
    (far,) = await waiting_for_far(scene, 1)
    await eventually(lambda: time.monotonic() - begun > 0.1)
    scene.far.away.set()
    await far
    assert scene.hands.time_left < 0.2

    scene.far.away = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await scene.service.get(far_order(2))
    await scene.service.flights.close()


@pytest.mark.parametrize("fault", [SourceFailed, DeadlineExceeded, Unavailable])
async def test_a_kept_picture_is_answered_while_its_source_fails(scene, fault):
    await scene.get()
    scene.let_looks_grow_old()
    scene.shelf.fault = fault()

    assert await scene.get() == ("hit", b"1")


async def test_twelve_sizes_of_a_cold_original_are_one_download_and_the_workers_idle_while_it_comes(tmp_path):
    scene, origin = Scene(), FakeOrigin({"cat.png": b"a cat"})
    origin.held = asyncio.Event()
    spool = OriginCache(origin, OriginCacheSettings(path=tmp_path))
    await spool.start()
    scene.service.renderer.sources["far"] = spool
    sizes = [RenderRequest(f"size {number}", SourceRef("far", "cat.png"), Plan()) for number in range(12)]
    tasks = [asyncio.create_task(scene.service.get(order)) for order in sizes]
    await eventually(lambda: spool.statistics().waiting == 12)

    queue = scene.service.renderer.admission.statistics()
    assert (queue.waiting, queue.running, scene.hands.renders) == (0, 0, 0)
    origin.held.set()
    served = await asyncio.gather(*tasks)
    assert [each.outcome for each in served] == ["rendered"] * 12
    assert origin.fetches == ["cat.png"]
    await scene.service.flights.close()
    await spool.close()
