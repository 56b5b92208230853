"""How much a stranger can have made of one original, and who is not counted."""

import asyncio
import random
from dataclasses import replace

import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.errors import BrokenImage, NotFound, Overloaded, QuotaExceeded
from imgserver.headers.negotiation import offers
from imgserver.rendering.variants import RenderRequest
from imgserver.security.signing import Key, Keyring
from tests.test_service import Scene

RUNGS = (160, 320, 640, 960, 1280, 1920, 2560, 3840)
QUALITIES = 20


def dialect_of(**settings) -> NativeDialect:
    return NativeDialect(NativeSettings(**settings), {"photos"}, "photos", keyring=Keyring((Key(bytes(32)),)))


def order_of(scene: Scene, target: str, dialect: NativeDialect | None = None) -> RenderRequest:
    return scene.service.pipeline_version.render_request((dialect or dialect_of()).parse(target), offers(None))


async def outcomes(scene: Scene, targets: list[str]) -> list[str]:
    """What became of each, "refused" where the quota was used up."""
    told = []
    for target in targets:
        try:
            told.append((await scene.service.get(order_of(scene, target))).outcome)
        except QuotaExceeded:
            told.append("refused")
    return told


def widths(count: int, first: int = 1) -> list[str]:
    return [f"/img/w_{width}/cat.png" for width in range(first, first + count)]


async def test_new_renditions_of_one_original_are_bounded_and_hits_are_not():
    scene = Scene(per_minute=120, burst=3)

    assert await outcomes(scene, widths(5)) == ["rendered"] * 3 + ["refused"] * 2
    assert await outcomes(scene, widths(3) * 50) == ["hit"] * 150
    assert await outcomes(scene, ["/img/w_1/dog.jpg"]) == ["rendered"]
    scene.now += 0.5
    assert await outcomes(scene, widths(2, first=50)) == ["rendered", "refused"]
    assert scene.hands.renders == 5


async def test_signed_urls_are_not_counted():
    scene = Scene(per_minute=120, burst=1)
    dialect = dialect_of()
    signed = []
    for width in range(1, 20):
        rest = f"w_{width}/cat.png"
        signed.append(f"/img/s--{Keyring((Key(bytes(32)),)).sign(rest, source='photos')}--/{rest}")

    for target in signed:
        assert (await scene.service.get(order_of(scene, target, dialect))).outcome == "rendered"
    assert await outcomes(scene, ["/img/w_500/cat.png", "/img/w_501/cat.png"]) == ["rendered", "refused"]


async def test_who_joins_a_render_under_way_is_not_counted():
    scene = Scene(per_minute=120, burst=1)
    order = order_of(scene, "/img/w_9/cat.png")

    served = await asyncio.gather(*(scene.service.get(order) for _ in range(5)))
    assert sorted(one.outcome for one in served) == ["joined"] * 4 + ["rendered"]


async def test_renewing_a_picture_behind_its_answer_is_not_counted():
    scene = Scene(per_minute=120, burst=1)
    order = order_of(scene, "/img/w_9/cat.png")
    kept = (await scene.service.get(order)).rendition
    scene.service.cache.put(order.key, replace(kept, fresh_until=1.0))

    assert (await scene.service.get(order)).outcome == "stale"
    await asyncio.wait_for(scene.hands.rendered(2), 5)


@pytest.mark.parametrize(
    ("error", "then"), [(NotFound, "rendered"), (Overloaded, "rendered"), (BrokenImage, "refused")]
)
async def test_only_what_cost_a_worker_is_counted(error, then):
    scene = Scene(per_minute=1, burst=1)
    scene.hands.fault = error()
    with pytest.raises(error):
        await scene.service.get(order_of(scene, "/img/w_9/cat.png"))
    scene.hands.fault = None
    # What was refused is refused again for a second.
    scene.now += 2

    assert await outcomes(scene, ["/img/w_9/cat.png"]) == [then]


async def test_when_the_quota_is_used_up_the_picture_of_before_is_answered():
    scene = Scene(per_minute=1, burst=1)
    order = order_of(scene, "/img/w_9/cat.png")
    before = await scene.service.get(order)
    scene.shelf.state = 2
    scene.let_looks_grow_old()

    after = await scene.service.get(order)
    assert (after.outcome, after.rendition.body) == ("stale", before.rendition.body)
    assert await outcomes(scene, ["/img/w_10/cat.png"]) == ["refused"]


async def test_ten_thousand_urls_make_only_what_the_ladder_allows():
    """K = rungs times steps of quality, for one format and one way of fitting."""
    scene = Scene()
    dialect, draw = dialect_of(snap_widths=RUNGS), random.Random(7)
    keys = set()
    for _ in range(10_000):
        width, quality, ratio = draw.randint(1, 8192), draw.randint(1, 100), draw.randint(5000, 40000) / 10000
        order = order_of(scene, f"/img/w_{width},q_{quality},dpr_{ratio},f_jpg/cat.png", dialect)
        keys.add(order.key)
        await scene.service.get(order)

    assert scene.hands.renders == len(keys) <= len(RUNGS) * QUALITIES


async def test_ten_thousand_urls_make_only_what_the_quota_allows():
    """K = the burst, and the rate over the time they take."""
    scene = Scene(per_minute=120, burst=40)
    targets = [f"/img/w_{width}/cat.png" for width in random.Random(7).sample(range(1, 8193), 8_000)]
    targets += [target.replace("w_", "h_") for target in targets[:2_000]]
    told = []
    for begin in range(0, 10_000, 1_000):
        told += await outcomes(scene, targets[begin : begin + 1_000])
        scene.now += 1.0

    assert told.count("rendered") == scene.hands.renders == 40 + 9 * 2
    assert told.count("refused") == 10_000 - 58
