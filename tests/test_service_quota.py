"""The quota of new renditions per original, and which requests do not count."""

import asyncio
import random
from dataclasses import replace

import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.errors import BrokenImage, NotFound, OriginalBusy, Overloaded
from imgserver.headers.negotiation import offers
from imgserver.rendering.variants import RenderRequest
from imgserver.security.signing import Keyring, SigningKey
from tests.service_scenario import Scenario

WIDTHS = (160, 320, 640, 960, 1280, 1920, 2560, 3840)
QUALITIES = 20


def dialect_of(**settings) -> NativeDialect:
    return NativeDialect(NativeSettings(**settings), {"photos"}, "photos", keyring=Keyring((SigningKey(bytes(32)),)))


def request_of(scenario: Scenario, target: str, dialect: NativeDialect | None = None) -> RenderRequest:
    return scenario.service.pipeline_version.render_request((dialect or dialect_of()).parse(target), offers(None))


async def outcomes(scenario: Scenario, targets: list[str]) -> list[str]:
    """The outcome of each request; "refused" where the quota was used up."""
    results = []
    for target in targets:
        try:
            results.append((await scenario.service.get(request_of(scenario, target))).outcome)
        except OriginalBusy:
            results.append("refused")
    return results


def widths(count: int, first: int = 1) -> list[str]:
    return [f"/img/w_{width}/cat.png" for width in range(first, first + count)]


async def test_new_renditions_of_one_original_are_limited_and_hits_are_not():
    scenario = Scenario(per_minute=120, burst=3)

    assert await outcomes(scenario, widths(5)) == ["rendered"] * 3 + ["refused"] * 2
    assert await outcomes(scenario, widths(3) * 50) == ["hit"] * 150
    assert await outcomes(scenario, ["/img/w_1/dog.jpg"]) == ["rendered"]
    scenario.now += 0.5
    assert await outcomes(scenario, widths(2, first=50)) == ["rendered", "refused"]
    assert scenario.workers.renders == 5


async def test_a_long_render_counts_once_per_second():
    scenario = Scenario(per_minute=120, burst=3)
    charged = []
    scenario.service.quota.charge = lambda ref, *, seconds: charged.append((ref.path, seconds))
    await outcomes(scenario, [*widths(1), *widths(1)])

    assert [path for path, _ in charged] == ["cat.png"]
    assert charged[0][1] == pytest.approx(scenario.finished[0].render_seconds)


async def test_signed_urls_are_not_counted():
    scenario = Scenario(per_minute=120, burst=1)
    dialect = dialect_of()
    signed = []
    for width in range(1, 20):
        rest = f"w_{width}/cat.png"
        signed.append(f"/img/s--{Keyring((SigningKey(bytes(32)),)).sign(rest, source='photos')}--/{rest}")

    for target in signed:
        assert (await scenario.service.get(request_of(scenario, target, dialect))).outcome == "rendered"
    assert await outcomes(scenario, ["/img/w_500/cat.png", "/img/w_501/cat.png"]) == ["rendered", "refused"]


async def test_joining_a_render_in_flight_is_not_counted():
    scenario = Scenario(per_minute=120, burst=1)
    request = request_of(scenario, "/img/w_9/cat.png")

    served = await asyncio.gather(*(scenario.service.get(request) for _ in range(5)))
    assert sorted(one.outcome for one in served) == ["joined"] * 4 + ["rendered"]


async def test_a_background_refresh_is_not_counted():
    scenario = Scenario(per_minute=120, burst=1)
    request = request_of(scenario, "/img/w_9/cat.png")
    rendition = (await scenario.service.get(request)).rendition
    scenario.service.cache.put(request.key, replace(rendition, fresh_until=1.0))

    assert (await scenario.service.get(request)).outcome == "stale"
    await asyncio.wait_for(scenario.workers.rendered(2), 5)


@pytest.mark.parametrize(
    ("error", "then"), [(NotFound, "rendered"), (Overloaded, "rendered"), (BrokenImage, "refused")]
)
async def test_only_renders_that_cost_a_worker_are_counted(error, then):
    scenario = Scenario(per_minute=1, burst=1)
    scenario.workers.error = error()
    with pytest.raises(error):
        await scenario.service.get(request_of(scenario, "/img/w_9/cat.png"))
    scenario.workers.error = None
    # A cached error is raised again for a second.
    scenario.now += 2

    assert await outcomes(scenario, ["/img/w_9/cat.png"]) == [then]


async def test_the_former_rendition_is_served_when_the_quota_is_used_up():
    scenario = Scenario(per_minute=1, burst=1)
    request = request_of(scenario, "/img/w_9/cat.png")
    before = await scenario.service.get(request)
    scenario.source.state = 2
    scenario.expire_fingerprints()

    after = await scenario.service.get(request)
    assert (after.outcome, after.rendition.body) == ("stale", before.rendition.body)
    assert await outcomes(scenario, ["/img/w_10/cat.png"]) == ["refused"]


async def test_ten_thousand_urls_cause_no_more_renders_than_snapping_allows():
    """At most widths times qualities, for one format and one way of fitting."""
    scenario = Scenario()
    dialect, draw = dialect_of(snap_widths=WIDTHS), random.Random(7)
    keys = set()
    for _ in range(10_000):
        width, quality, ratio = draw.randint(1, 8192), draw.randint(1, 100), draw.randint(5000, 40000) / 10000
        request = request_of(scenario, f"/img/w_{width},q_{quality},dpr_{ratio},f_jpg/cat.png", dialect)
        keys.add(request.key)
        await scenario.service.get(request)

    assert scenario.workers.renders == len(keys) <= len(WIDTHS) * QUALITIES


async def test_ten_thousand_urls_cause_no_more_renders_than_the_quota_allows():
    """The burst, and the rate over the time that they take."""
    scenario = Scenario(per_minute=120, burst=40)
    targets = [f"/img/w_{width}/cat.png" for width in random.Random(7).sample(range(1, 8193), 8_000)]
    targets += [target.replace("w_", "h_") for target in targets[:2_000]]
    results = []
    for begin in range(0, 10_000, 1_000):
        results += await outcomes(scenario, targets[begin : begin + 1_000])
        scenario.now += 1.0

    assert results.count("rendered") == scenario.workers.renders == 40 + 9 * 2
    # Requests with the result of an earlier one are hits: widths above the original's, and equal heights.
    assert results.count("refused") == 10_000 - 58 - results.count("hit")
