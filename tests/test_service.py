"""One image request, from the cache look-up to the cached render, with a fake source and fake workers."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from imgserver.cache import early_refresh
from imgserver.cache.cache_tags import groups_of, source_group
from imgserver.engine.job import Quality
from imgserver.errors import (
    BrokenImage,
    DeadlineExceeded,
    NotFound,
    NotInThisBuild,
    OriginalBusy,
    Overloaded,
    ServerFault,
    SourceFailed,
    Unavailable,
    UnsupportedImage,
    WorkerLost,
)
from imgserver.plan.plan import ImageRequest, Plan, SourceRef
from imgserver.plan.rendition import CachePolicy, Fingerprint, Original
from imgserver.rendering import renderer
from imgserver.rendering.client_queue import Requester
from imgserver.rendering.variants import PipelineVersion, RenderRequest
from imgserver.sources.origin_cache.origin_cache import OriginCache
from imgserver.sources.origin_cache.settings import OriginCacheSettings
from imgserver.testing import FakeOrigin, make_rendition
from tests.polling import eventually
from tests.service_scenario import REQUEST, Scenario


@pytest.fixture
async def scenario():
    scenario = Scenario()
    yield scenario
    await scenario.service.flights.close()


async def test_a_rendition_is_rendered_once_and_then_cached(scenario):
    assert await scenario.get() == ("rendered", b"1")
    assert await scenario.get() == ("hit", b"1")
    assert len(scenario.finished) == scenario.source.opened == 1


async def test_get_fresh_answers_while_the_fingerprint_is_known(scenario):
    await scenario.get()

    assert scenario.service.get_fresh(REQUEST).body == b"1"
    assert scenario.source.fingerprints_read == 0
    scenario.expire_fingerprints()
    assert scenario.service.get_fresh(REQUEST) is None


async def test_a_changed_original_is_rendered_again(scenario):
    await scenario.get()
    scenario.source.state = 2
    scenario.expire_fingerprints()

    assert await scenario.get() == ("rendered", b"2")


async def test_a_deleted_original_drops_its_rendition(scenario):
    await scenario.get()
    scenario.source.state = None
    scenario.expire_fingerprints()

    with pytest.raises(NotFound):
        await scenario.get()
    assert scenario.service.cache.statistics().tiers["memory"].entries == 0


async def test_concurrent_misses_share_one_render(scenario):
    results = await asyncio.gather(*(scenario.get() for _ in range(5)))

    assert sorted(outcome for outcome, _ in results) == ["joined"] * 4 + ["rendered"]
    assert scenario.workers.renders == 1


async def test_a_server_error_is_not_cached_and_frees_place_and_worker(scenario):
    scenario.workers.error = WorkerLost()
    with pytest.raises(WorkerLost):
        await scenario.get()
    scenario.workers.error = None

    assert await scenario.get() == ("rendered", b"2")
    queue = scenario.service.renderer.admission.statistics()
    assert (queue.waiting, queue.running, queue.admitted) == (0, 0, 2)


async def test_a_source_that_hangs_ends_at_the_deadline():
    scenario = Scenario(deadline_seconds=0.1)
    scenario.source.hangs = True

    with pytest.raises(DeadlineExceeded):
        await scenario.get()
    assert scenario.service.renderer.admission.statistics().waiting == 0
    await scenario.service.flights.close()


async def test_a_cached_rendition_is_served_while_its_source_hangs(scenario, monkeypatch):
    monkeypatch.setattr(renderer, "FINGERPRINT_SECONDS", 0.05)
    await scenario.get()
    scenario.expire_fingerprints()
    scenario.source.hangs = True

    assert await asyncio.wait_for(scenario.get(), 5) == ("stale", b"1")


async def test_a_known_fingerprint_is_not_read_again(scenario):
    await scenario.get()
    assert await scenario.get() == ("hit", b"1")
    assert scenario.source.fingerprints_read == 0
    scenario.expire_fingerprints()
    assert await scenario.get() == ("hit", b"1")
    assert scenario.source.fingerprints_read == 1


async def test_a_miss_is_counted_once(scenario):
    assert scenario.service.get_fresh(REQUEST) is None
    await scenario.get()

    assert scenario.service.cache.statistics().tiers["memory"].misses == 1


@pytest.mark.parametrize(
    "changes", [{"fresh_until": 1.0}, {"fingerprint": Fingerprint("another")}], ids=["stale", "changed"]
)
async def test_two_look_ups_for_one_answer_count_as_one_hit(scenario, changes):
    await scenario.get()
    cached = scenario.service.cache.get_fresh(REQUEST.key)
    scenario.service.cache.put(REQUEST.key, replace(cached, **changes))
    before = scenario.service.cache.statistics().tiers["memory"].hits
    assert scenario.service.get_fresh(REQUEST) is None
    await scenario.get()

    assert scenario.service.cache.statistics().tiers["memory"].hits == before + 1


async def test_a_purge_during_a_render_wins(scenario):
    request = replace(REQUEST, groups=groups_of(REQUEST.ref, key=REQUEST.key))
    scenario.workers.held = asyncio.Event()
    rendering = asyncio.create_task(scenario.service.get(request))
    await asyncio.wait_for(scenario.workers.begun.wait(), 5)
    await scenario.service.cache.purge([source_group(request.ref)])
    after = asyncio.create_task(scenario.service.get(request))
    await asyncio.sleep(0)
    scenario.workers.held.set()

    assert (await rendering).rendition.body != (await after).rendition.body
    cached = await scenario.service.get(request)
    assert (cached.outcome, cached.rendition.body) == ("hit", (await after).rendition.body)


async def test_a_stale_rendition_is_served_while_it_is_refreshed_in_the_background(scenario):
    fingerprint = await scenario.source.fingerprint("cat.png")
    scenario.service.cache.put(REQUEST.key, make_rendition(b"old", fingerprint=fingerprint, fresh_until=1.0))

    assert await scenario.get() == ("stale", b"old")
    await asyncio.wait_for(scenario.workers.rendered(1), 5)


async def test_early_refresh_is_decided_once_per_request(scenario, monkeypatch):
    """The fast path, the handler and the service all look the rendition up. Three draws would refresh with the cube of
    the probability."""
    fingerprint = await scenario.source.fingerprint("cat.png")
    scenario.service.cache.put(
        REQUEST.key, make_rendition(b"old", fingerprint=fingerprint, fresh_until=time.time() + 1000)
    )
    await scenario.get()
    assert scenario.service.get_fresh(REQUEST).body == b"old"
    draws = []
    monkeypatch.setattr(early_refresh, "is_due", lambda _: not draws and not draws.append(1))

    assert [scenario.service.get_fresh(REQUEST), scenario.service.get_fresh(REQUEST)] == [None, None]
    assert await scenario.get() == ("hit", b"old")
    await asyncio.wait_for(scenario.workers.rendered(1), 5)
    assert len(draws) == 1


@pytest.mark.parametrize(
    "other",
    [
        PipelineVersion.of(Quality(linear_light=True)),
        PipelineVersion.of(Quality(), plugins=["ppm 1.0"]),
        PipelineVersion.of(Quality(), identities={"photos": "another folder"}),
    ],
)
def test_a_key_depends_on_the_quality_settings_the_plugins_and_the_identity_of_the_source(other):
    request = ImageRequest(SourceRef("photos", "cat.png"), Plan())
    key = PipelineVersion.of(Quality()).render_request(request, ()).key

    assert key == PipelineVersion.of(Quality()).render_request(request, ()).key
    assert key != other.render_request(request, ()).key


async def test_a_flood_of_requests_for_a_broken_image_costs_one_render(scenario):
    scenario.workers.error = BrokenImage("torn")

    errors = [await scenario.failing_get() for _ in range(50)]

    assert {(type(error), error.detail) for error in errors} == {(BrokenImage, "torn")}
    assert (scenario.workers.renders, scenario.source.opened, scenario.source.fingerprints_read) == (1, 1, 0)
    assert scenario.service.negative_cache.statistics().hits == 49


async def test_a_flood_of_requests_for_an_absent_original_reads_its_source_once(scenario):
    scenario.source.state = None

    for number in range(50):
        assert isinstance(
            await scenario.failing_get(RenderRequest(f"key {number}", REQUEST.ref, REQUEST.plan)), NotFound
        )

    assert scenario.source.opened + scenario.source.fingerprints_read == 1


async def test_a_new_original_is_found_after_a_second(scenario):
    scenario.source.state = None
    await scenario.failing_get()
    scenario.source.state = 1
    scenario.now += 1.0

    assert await scenario.get() == ("rendered", b"1")


async def test_repeated_requests_do_not_prolong_a_cached_absence(scenario):
    scenario.source.state = None
    for _ in range(5):
        await scenario.failing_get()
        scenario.now += 1.0
    scenario.source.state = 1

    assert await scenario.get() == ("rendered", b"1")


async def test_a_repaired_original_is_rendered_within_a_second_however_often_it_failed(scenario):
    scenario.workers.error = BrokenImage()
    for _ in range(6):
        await scenario.failing_get()
        scenario.now += 40.0
    await scenario.failing_get()
    scenario.workers.error, scenario.source.state = None, 2
    assert isinstance(await scenario.failing_get(), BrokenImage)
    scenario.expire_fingerprints()

    assert (await scenario.get())[0] == "rendered"


async def test_a_broken_image_is_rendered_again_with_exponential_back_off(scenario):
    scenario.workers.error = BrokenImage()
    for _ in range(600):
        await scenario.failing_get()
        scenario.now += 1.0

    # After 0, 1, 3, 7, 15, 31, 63 seconds, and then each minute.
    assert scenario.workers.renders == 15


@pytest.mark.parametrize("error", [ServerFault(), Unavailable(), Overloaded(), DeadlineExceeded(), NotInThisBuild()])
async def test_server_errors_are_never_cached(scenario, error):
    scenario.workers.error = error
    await scenario.failing_get()
    await scenario.failing_get()

    assert scenario.workers.renders == 2
    assert scenario.service.negative_cache.statistics().entries == 0


@pytest.mark.parametrize("state", [1, None])
async def test_a_purge_invalidates_a_cached_error(scenario, state):
    request = replace(REQUEST, groups=groups_of(REQUEST.ref, key=REQUEST.key))
    scenario.workers.error, scenario.source.state = BrokenImage(), state
    await scenario.failing_get(request)
    scenario.workers.error, scenario.source.state = None, 1
    await scenario.service.cache.purge([source_group(request.ref)])

    assert (await scenario.get(request))[0] == "rendered"


async def test_a_cached_error_is_raised_again_while_the_source_fails(scenario):
    scenario.workers.error = BrokenImage()
    await scenario.failing_get()
    scenario.now += 1.0
    await scenario.failing_get()
    scenario.now += 1.5
    scenario.source.error = Unavailable()

    assert isinstance(await scenario.failing_get(), BrokenImage)


@pytest.mark.parametrize("error", [Overloaded(), WorkerLost(), DeadlineExceeded()])
async def test_a_stale_rendition_is_served_while_renders_fail(scenario, error):
    await scenario.put_stale()
    scenario.workers.error = error

    for _ in range(3):
        assert await scenario.get() == ("stale", b"old")


async def test_a_stale_rendition_is_served_while_the_server_drains(scenario):
    await scenario.put_stale()
    scenario.service.renderer.admission.drain()

    assert await scenario.get() == ("stale", b"old")


@pytest.mark.parametrize("error", [Unavailable(), SourceFailed(), DeadlineExceeded()])
async def test_a_stale_rendition_is_served_while_its_source_fails(scenario, error):
    await scenario.put_stale()
    scenario.source.error = error
    scenario.expire_fingerprints()

    assert await scenario.get() == ("stale", b"old")


@pytest.mark.parametrize("error", [Overloaded(), WorkerLost(), SourceFailed(), DeadlineExceeded()])
async def test_the_former_rendition_is_served_while_the_render_of_a_changed_original_fails(scenario, error):
    await scenario.get()
    scenario.source.state, scenario.workers.error = 2, error
    scenario.expire_fingerprints()

    assert await scenario.get() == ("stale", b"1")
    assert scenario.service.get_fresh(REQUEST) is None
    scenario.workers.error = None
    assert await scenario.get() == ("rendered", b"3")
    assert await scenario.get() == ("hit", b"3")


@pytest.mark.parametrize("error", [BrokenImage(), ServerFault()])
async def test_lasting_errors_of_a_changed_original_are_raised(scenario, error):
    await scenario.get()
    scenario.source.state, scenario.workers.error = 2, error
    scenario.expire_fingerprints()

    assert type(await scenario.failing_get()) is type(error)


async def test_the_former_rendition_is_served_while_a_young_original_does_not_decode(scenario):
    await scenario.get()
    scenario.source.state, scenario.workers.error = 2, BrokenImage(young=True)
    scenario.expire_fingerprints()

    # The second request is answered from the negative cache.
    assert [await scenario.get(), await scenario.get()] == [("stale", b"1")] * 2
    assert scenario.workers.renders == 2


async def test_a_young_original_that_does_not_decode_has_an_error_without_max_age(scenario):
    scenario.workers.error = BrokenImage(young=True)
    errors = [await scenario.failing_get(), await scenario.failing_get()]

    assert [(error.status, error.max_age_seconds) for error in errors] == [(422, 0)] * 2
    assert scenario.workers.renders == 1


async def test_a_young_original_is_rendered_as_soon_as_it_is_whole(scenario):
    scenario.workers.error = BrokenImage(young=True)
    await scenario.failing_get()
    scenario.source.state, scenario.workers.error = 2, None

    assert (await scenario.get())[0] == "rendered"


async def test_the_error_that_a_source_raises_instead_is_the_one_that_is_cached(scenario, monkeypatch):
    @asynccontextmanager
    async def judged(path: str):
        try:
            yield Original("/nowhere", b"\x89PNG\r\n\x1a\n", Fingerprint("state 1"), size_bytes=4, modified=7)
        except BrokenImage as error:
            raise Unavailable() from error

    monkeypatch.setattr(scenario.source, "open", judged)
    scenario.workers.error = BrokenImage()
    assert isinstance(await scenario.failing_get(), Unavailable)
    scenario.workers.error = None

    assert (await scenario.get())[0] == "rendered"


@pytest.mark.parametrize("policy", [CachePolicy.PRIVATE, CachePolicy.NO_STORE])
async def test_a_rendition_that_shared_caches_may_not_store_is_not_stored(scenario, policy):
    scenario.source.cache_policy = policy

    assert [await scenario.get(), await scenario.get()] == [("rendered", b"1"), ("rendered", b"2")]
    assert scenario.service.cache.statistics().tiers["memory"].entries == 0


async def test_concurrent_requests_share_a_render_that_is_not_stored(scenario):
    scenario.source.cache_policy = CachePolicy.PRIVATE
    results = await asyncio.gather(*(scenario.get() for _ in range(5)))

    assert sorted(outcome for outcome, _ in results) == ["joined"] * 4 + ["rendered"]


async def test_a_rendition_is_removed_when_shared_caches_may_no_longer_store_it(scenario):
    await scenario.get()
    scenario.source.state, scenario.source.cache_policy = 2, CachePolicy.PRIVATE
    scenario.expire_fingerprints()
    await scenario.get()

    assert scenario.service.cache.statistics().tiers["memory"].entries == 0


@pytest.mark.parametrize("error", [SourceFailed, DeadlineExceeded, Unavailable])
async def test_a_rendition_that_must_be_validated_is_not_served_while_its_source_fails(scenario, error):
    scenario.source.cache_policy = CachePolicy.MUST_REVALIDATE
    assert [await scenario.get(), await scenario.get()] == [("rendered", b"1"), ("hit", b"1")]
    scenario.expire_fingerprints()
    scenario.source.error = error()

    assert isinstance(await scenario.failing_get(), error)


async def test_a_changed_rendition_that_must_be_validated_is_not_served_stale(scenario):
    scenario.source.cache_policy = CachePolicy.MUST_REVALIDATE
    await scenario.get()
    scenario.source.state, scenario.workers.error = 2, WorkerLost()
    scenario.expire_fingerprints()

    assert isinstance(await scenario.failing_get(), WorkerLost)


def request_of(scenario: Scenario, path: str) -> RenderRequest:
    request = ImageRequest(SourceRef("photos", path), Plan())
    return scenario.service.pipeline_version.render_request(request, ())


async def test_two_names_of_an_original_share_its_renditions(scenario):
    scenario.source.aliases = {"link.png": "cat.png", "second.png": "cat.png"}
    requests = [request_of(scenario, name) for name in ("link.png", "cat.png", "second.png")]

    assert [await scenario.get(request) for request in requests] == [("rendered", b"1"), ("hit", b"1"), ("hit", b"1")]
    assert scenario.service.cache.statistics().tiers["memory"].entries == 1
    assert scenario.service.get_fresh(requests[0]).body == b"1"


async def test_two_names_of_an_original_share_its_quota():
    scenario = Scenario(per_minute=60, burst=1)
    scenario.source.aliases = {"link.png": "cat.png"}
    cat, link = (replace(request_of(scenario, name), metered=True) for name in ("cat.png", "link.png"))
    await scenario.get(cat)
    scenario.service.cache.drop(cat.key)

    with pytest.raises(OriginalBusy):
        await scenario.get(link)


async def test_an_alias_is_checked_once_per_second(scenario):
    scenario.source.aliases = {"link.png": "cat.png"}
    for _ in range(5):
        await scenario.get(request_of(scenario, "link.png"))

    assert scenario.source.identified == 1


async def test_an_absent_original_has_no_aliases_for_a_second(scenario):
    scenario.source.state = None
    for _ in range(5):
        await scenario.failing_get()

    assert scenario.source.identified == 1


async def test_the_rendition_of_an_alias_is_served_stale_while_its_source_fails(scenario):
    scenario.source.aliases = {"link.png": "cat.png"}
    await scenario.get(request_of(scenario, "link.png"))
    scenario.expire_fingerprints()
    scenario.source.error = Unavailable()

    assert await scenario.get(request_of(scenario, "link.png")) == ("stale", b"1")


async def test_a_purged_rendition_is_not_served_although_the_render_fails(scenario):
    request = replace(REQUEST, groups=groups_of(REQUEST.ref, key=REQUEST.key))
    await scenario.get(request)
    scenario.source.state, scenario.workers.error, scenario.workers.held = 2, WorkerLost(), asyncio.Event()
    scenario.workers.begun.clear()
    scenario.expire_fingerprints()
    waiting = asyncio.create_task(scenario.service.get(request))
    await asyncio.wait_for(scenario.workers.begun.wait(), 5)
    await scenario.service.cache.purge([source_group(request.ref)])
    scenario.workers.held.set()

    with pytest.raises(WorkerLost):
        await waiting


async def test_a_failing_refresh_is_not_repeated_at_each_request(scenario):
    await scenario.put_stale()
    scenario.workers.error = BrokenImage()
    await scenario.get()
    await eventually(lambda: scenario.service.background.statistics().failed == 1)
    for _ in range(5):
        assert await scenario.get() == ("stale", b"old")

    assert scenario.service.background.statistics().started == 1


async def test_a_record_older_than_a_tag_rule_is_rendered_again(scenario):
    untagged = replace(REQUEST, groups=groups_of(REQUEST.ref, key=REQUEST.key))
    tagged = RenderRequest(
        REQUEST.key, REQUEST.ref, REQUEST.plan, groups_of(REQUEST.ref, key=REQUEST.key, tags=["summer"])
    )
    await scenario.get(untagged)
    scenario.expire_fingerprints()

    assert await scenario.get(tagged) == ("rendered", b"2")
    assert await scenario.get(tagged) == ("hit", b"2")


async def test_a_render_reports_its_stages_and_a_hit_its_tier(scenario):
    made = await scenario.service.get(REQUEST)
    hit = await scenario.service.get(REQUEST)

    assert made.rendition.stages is not None
    assert (made.tier, hit.tier) == ("", "memory")


# Remote originals


def remote_request(number: int) -> RenderRequest:
    return RenderRequest(f"remote {number}", SourceRef("remote", f"{number}.png"), Plan())


async def waiting_for_remote(scenario, count: int) -> list[asyncio.Task]:
    scenario.remote.held = asyncio.Event()
    tasks = [asyncio.create_task(scenario.service.get(remote_request(number))) for number in range(count)]
    await eventually(lambda: scenario.remote.fetched == count)
    return tasks


async def test_a_request_that_waits_for_a_slow_origin_takes_no_place_in_the_render_queue():
    scenario = Scenario(max_waiting=4)
    waiting = await waiting_for_remote(scenario, 100)

    queue = scenario.service.renderer.admission.statistics()
    assert (queue.waiting, queue.running, queue.predicted_wait_seconds) == (0, 0, 0.0)
    assert await asyncio.wait_for(scenario.get(), 1) == ("rendered", b"1")
    assert await asyncio.wait_for(scenario.get(), 1) == ("hit", b"1")
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await scenario.service.flights.close()


async def test_a_request_that_would_be_refused_does_not_fetch_its_original(scenario):
    scenario.service.renderer.admission.drain()

    with pytest.raises(Overloaded):
        await scenario.service.get(remote_request(1))
    assert scenario.remote.fetched == 0


async def test_the_fetch_of_an_original_counts_towards_the_deadline():
    scenario, begun = Scenario(deadline_seconds=0.3), time.monotonic()
    (waiting,) = await waiting_for_remote(scenario, 1)
    await eventually(lambda: time.monotonic() - begun > 0.1)
    scenario.remote.held.set()
    await waiting
    assert scenario.workers.time_left < 0.2

    scenario.remote.held = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await scenario.service.get(remote_request(2))
    await scenario.service.flights.close()


@pytest.mark.parametrize("error", [SourceFailed, DeadlineExceeded, Unavailable])
async def test_a_cached_rendition_is_served_while_its_source_fails(scenario, error):
    await scenario.get()
    scenario.expire_fingerprints()
    scenario.source.error = error()

    assert await scenario.get() == ("stale", b"1")


async def test_twelve_sizes_of_a_remote_original_cost_one_download_and_hold_no_worker_meanwhile(tmp_path):
    scenario, origin = Scenario(), FakeOrigin({"cat.png": b"\xff\xd8\xff a cat"})
    origin.held = asyncio.Event()
    origin_cache = OriginCache(origin, OriginCacheSettings(path=tmp_path))
    await origin_cache.start()
    scenario.service.renderer.sources["remote"] = origin_cache
    sizes = [RenderRequest(f"size {number}", SourceRef("remote", "cat.png"), Plan()) for number in range(12)]
    tasks = [asyncio.create_task(scenario.service.get(request)) for request in sizes]
    await eventually(lambda: origin_cache.statistics().waiting == 12)

    queue = scenario.service.renderer.admission.statistics()
    assert (queue.waiting, queue.running, scenario.workers.renders) == (0, 0, 0)
    origin.held.set()
    served = await asyncio.gather(*tasks)
    assert [each.outcome for each in served] == ["rendered"] * 12
    assert origin.fetches == ["cat.png"]
    await scenario.service.flights.close()
    await origin_cache.close()


async def test_a_client_that_joined_a_refused_render_of_another_client_starts_its_own():
    scenario = Scenario(max_waiting=2)
    scenario.workers.held = asyncio.Event()
    admission = scenario.service.renderer.admission
    requests = [RenderRequest(f"size {number}", SourceRef("photos", "cat.png"), Plan()) for number in range(5)]

    async def start(number: int, client: str) -> asyncio.Task:
        before = len(admission._queue), scenario.service.flights.statistics().coalesced
        task = asyncio.create_task(scenario.service.get(requests[number], Requester(client)))
        await eventually(lambda: (len(admission._queue), scenario.service.flights.statistics().coalesced) != before)
        return task

    flood = [await start(number, "flood") for number in range(4)]
    visitor = await start(3, "visitor")
    # Takes the place of the newest request of the flood.
    other = asyncio.create_task(scenario.service.get(requests[4], Requester("other")))
    with pytest.raises(Overloaded):
        await flood[3]
    scenario.workers.held.set()

    assert (await visitor).outcome == (await other).outcome == "rendered"
    await asyncio.gather(*flood, return_exceptions=True)


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"%PDF-1.7 of several objects", UnsupportedImage),
        (b"\xff\xd8\xff", Overloaded),
        (None, Overloaded),
        # These may still be being written.
        (b"", Overloaded),
        (b"%PDF", Overloaded),
        (bytes(5000), Overloaded),
    ],
)
async def test_overload_is_no_reason_to_refuse_what_no_worker_can_read(head, error):
    """The first bytes of a local original tell; a remote one is not fetched for it."""
    scenario = Scenario(max_waiting=1)
    scenario.workers.held = asyncio.Event()
    requests = [RenderRequest(f"size {number}", SourceRef("photos", "cat.png"), Plan()) for number in range(3)]
    waiting = [asyncio.create_task(scenario.service.get(request)) for request in requests]
    await eventually(lambda: scenario.service.renderer.admission.statistics().waiting == 1)
    scenario.source.local_head = head

    with pytest.raises(error):
        await scenario.service.get(RenderRequest("pdf", SourceRef("photos", "a.pdf"), Plan()))

    scenario.workers.held.set()
    await asyncio.gather(*waiting)
