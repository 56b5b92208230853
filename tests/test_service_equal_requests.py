"""Requests with the same result share one render and one rendition, once the size of the original is known."""

from dataclasses import replace

import pytest

from imgserver.plan.plan import Fit, Orient, Plan, Px, SourceRef
from imgserver.rendering.variants import RenderRequest
from tests.service_scenario import Scenario

REF = SourceRef("photos", "cat.png")


def request(width: int, *, enlarge: str = "deny", ref: SourceRef = REF, path: str = "") -> RenderRequest:
    """The originals of the scenario have 5000 pixels a side."""
    plan = Plan((Orient(), Fit(Px(width), enlarge=enlarge)))
    return RenderRequest(f"key {width} {enlarge}{path}", replace(ref, path=path or ref.path), plan, (f"k{width}",))


@pytest.fixture
def scenario() -> Scenario:
    return Scenario()


async def test_widths_above_the_original_are_rendered_once(scenario):
    assert await scenario.get(request(10000)) == ("rendered", b"1")
    assert [await scenario.get(request(width)) for width in range(20_000, 20_040)] == [("hit", b"1")] * 40
    assert scenario.workers.renders == 1


async def test_an_enlarged_image_is_another_result(scenario):
    await scenario.get(request(10000))

    assert await scenario.get(request(10000, enlarge="allow")) == ("rendered", b"2")
    assert await scenario.get(request(20000, enlarge="allow")) == ("rendered", b"3")


async def test_another_original_is_another_result(scenario):
    await scenario.get(request(10000))

    assert await scenario.get(request(20000, path="dog.png")) == ("rendered", b"2")


async def test_a_changed_original_is_rendered_for_the_request_itself(scenario):
    await scenario.get(request(10000))
    scenario.source.state = 2
    scenario.expire_fingerprints()

    assert await scenario.get(request(20000)) == ("rendered", b"2")
    assert await scenario.get(request(30000)) == ("hit", b"2")


async def test_a_request_that_was_purged_by_its_own_url_is_rendered(scenario):
    await scenario.get(request(10000))
    await scenario.service.cache.generations.bump(["k20000"])

    assert await scenario.get(request(20000)) == ("rendered", b"2")


async def test_an_own_rendition_is_preferred(scenario):
    await scenario.get(request(20000, enlarge="allow"))
    await scenario.get(request(10000))
    own = request(30000)
    scenario.service.cache.put(own.key, replace((await scenario.service.get(request(10000))).rendition, body=b"own"))

    assert (await scenario.get(own))[1] in (b"own", b"2")


async def test_paths_and_plans_of_any_length_are_not_remembered(scenario):
    long = "a" * 600
    await scenario.get(request(10000, path=long))

    assert await scenario.get(request(20000, path=long)) == ("rendered", b"2")
