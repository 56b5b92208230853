"""Copies that do not decode: when they are downloaded again, and what their errors allow."""

from dataclasses import replace

import pytest

from imgserver.errors import BrokenImage, ImgserverError, SourceFailed, Unavailable, UnsupportedImage
from imgserver.sources.origin import Origin
from tests.sources.origin_cache.test_origin_cache import CAT, PATH, Scene

PAGE = b"<html>503 at the upstream</html>"


@pytest.fixture
async def scene(tmp_path):
    scene = Scene(tmp_path)
    await scene.start()
    yield scene
    await scene.cache.close()


async def render(scene: Scene, error: ImgserverError | None = None) -> ImgserverError | None:
    """Opens the original, and reports an error of a worker that has read it. Returns the error that is left."""
    try:
        await scene.cache.fetch(PATH)
        async with scene.cache.open(PATH) as original:
            if original.head != CAT:
                raise error or BrokenImage()
    except ImgserverError as left:
        return left
    return None


def without_length(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The origin ends its bodies by closing the connection."""
    real = origin.response
    monkeypatch.setattr(origin, "response", lambda path: replace(real(path), complete=False))


@pytest.mark.parametrize("broken", [PAGE, b"", CAT[:500]], ids=["page", "empty", "half"])
@pytest.mark.parametrize("has_validators", [True, False])
async def test_an_original_that_does_not_decode_is_downloaded_again_after_a_second(scene, broken, has_validators):
    scene.origin.files[PATH], scene.origin.has_validators = broken, has_validators
    assert isinstance(await render(scene), BrokenImage)
    scene.origin.files[PATH] = CAT
    scene.now += 0.9
    assert isinstance(await render(scene), BrokenImage)
    scene.now += 0.1

    assert await render(scene) is None
    assert len(scene.origin.fetches) == 2


async def test_other_bytes_may_have_the_validators_of_the_broken_ones(scene, monkeypatch):
    same = scene.origin.response(PATH)
    monkeypatch.setattr(scene.origin, "response", lambda _: same)
    scene.origin.files[PATH] = CAT[:500]
    await render(scene)
    scene.origin.files[PATH] = CAT
    scene.now += 1

    assert await render(scene) is None


async def test_the_pause_doubles_up_to_a_minute(scene):
    scene.origin.files[PATH] = PAGE
    times = []
    for _ in range(300):
        before = len(scene.origin.fetches)
        await render(scene)
        if len(scene.origin.fetches) > before:
            times.append(scene.now - 1_000_000)
        scene.now += 1

    assert times == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]


async def test_failures_of_several_renditions_cost_one_download(scene):
    scene.origin.files[PATH] = PAGE
    for _ in range(5):
        await render(scene)

    assert len(scene.origin.fetches) == 1


async def test_a_page_that_stays_for_a_minute_is_what_the_origin_has(scene):
    scene.origin.files[PATH] = PAGE
    ages = []
    for _ in range(8):
        ages.append((scene.now - 1_000_000, (await render(scene, UnsupportedImage())).max_age_seconds))
        scene.now += 10

    assert ages == [(0, 0), (10, 0), (20, 0), (30, 0), (40, 0), (50, 0), (60, 300), (70, 300)]


async def test_a_page_that_changes_is_young_again(scene):
    scene.origin.files[PATH] = PAGE
    await render(scene)
    scene.now += 100
    scene.origin.files[PATH] = PAGE + b" "

    assert (await render(scene)).is_young


async def test_half_an_original_without_length_is_unavailable(scene, monkeypatch):
    without_length(scene.origin, monkeypatch)
    scene.origin.files[PATH] = CAT[:500]
    errors = [await render(scene), await render(scene)]

    assert [(type(error), error.facts["retry_after"]) for error in errors] == [(Unavailable, 1)] * 2
    assert len(scene.origin.fetches) == 1


async def test_half_an_original_without_length_is_broken_if_it_stays(scene, monkeypatch):
    without_length(scene.origin, monkeypatch)
    scene.origin.files[PATH] = CAT[:500]
    await render(scene)
    scene.now += 60
    error = await render(scene)

    assert (type(error), error.max_age_seconds) == (BrokenImage, 600)


async def test_a_whole_original_without_length_is_served(scene, monkeypatch):
    without_length(scene.origin, monkeypatch)

    assert await render(scene) is None


async def test_a_rejected_copy_is_not_used_while_the_origin_fails(scene):
    scene.origin.files[PATH] = PAGE
    await render(scene)
    scene.now += 1
    scene.origin.fault = SourceFailed()

    assert isinstance(await render(scene), SourceFailed)


async def test_a_rejected_copy_is_not_fresh_after_a_purge(scene):
    scene.origin.files[PATH] = PAGE
    await render(scene)
    scene.origin.files[PATH] = CAT
    await scene.cache.forget(PATH)

    assert await render(scene) is None


async def test_a_clock_that_was_set_back_does_not_prolong_the_pause(scene):
    scene.origin.files[PATH] = PAGE
    await render(scene)
    scene.origin.files[PATH] = CAT
    scene.now -= 86_400

    assert await render(scene) is None


@pytest.mark.parametrize("known", ["heic", "svg"])
async def test_an_image_of_a_format_that_is_not_read_is_whole(scene, known):
    scene.origin.files[PATH] = PAGE
    error = await render(scene, UnsupportedImage(format=known))

    assert error.max_age_seconds == 300
