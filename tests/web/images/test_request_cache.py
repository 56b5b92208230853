"""The request cache: what it stores, under which key, and in how many bytes."""

import time
import tracemalloc
from dataclasses import replace

import pytest

from imgserver.dialects import MountedDialects
from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.engine.job import Quality
from imgserver.headers.negotiation import NO_HINTS
from imgserver.plan.canonical import version_of
from imgserver.rendering.variants import PipelineVersion
from imgserver.security.signing import Keyring, SigningKey
from imgserver.settings.schema import HttpSettings
from imgserver.testing import make_rendition
from imgserver.web.images.request_cache import MAX_BYTES, RequestCache
from imgserver.web.images.response_headers import ResponseHeaders

RENDITION = replace(make_rendition(b"body"), fresh_until=time.time() + 300)
KEYRING = Keyring((SigningKey(bytes(range(32))),))
HEADERS = ResponseHeaders(HttpSettings())
PIPELINE = PipelineVersion.of(Quality())


@pytest.fixture
def cache() -> RequestCache:
    dialect = NativeDialect(NativeSettings(), {"photos"}, "photos", keyring=KEYRING)
    return RequestCache(MountedDialects({"native": dialect}), "v")


def answer(cache: RequestCache, target: str, *offers: tuple[str, ...]) -> None:
    """Puts the target as the handler does after it has answered with an image."""
    parsed = cache.parse(target)
    for offer in offers or ((),):
        prepared = parsed.add(offer, NO_HINTS, PIPELINE.render_request(parsed.request, offer))
        HEADERS.refresh(prepared, parsed, RENDITION, int(time.time()))
    cache.put(parsed)


def cache_control(cache: RequestCache, target: str) -> str:
    """That of the prepared response to the target."""
    found = cache.find(target, {})
    assert found is not None
    _, prepared, version, _ = found
    head = prepared.select({}, RENDITION, version)[2].decode()
    return next(line for line in head.split("\r\n") if line.startswith("Cache-Control: ")).partition(": ")[2]


def test_a_target_is_stored_when_it_has_been_answered(cache):
    cache.parse("/img/w_40/cat.png")

    assert (cache.find("/img/w_40/cat.png", {}), cache.bytes) == (None, 0)
    answer(cache, "/img/w_40/cat.png")
    assert cache.find("/img/w_40/cat.png", {}) is not None


def test_targets_with_any_query_share_one_entry(cache):
    answer(cache, "/img/w_40/cat.png?first")
    before = cache.bytes
    for number in range(100):
        target = f"/img/w_40/cat.png?{number}"
        answer(cache, target)
        found = cache.find(target, {})
        assert found is not None
        assert found[3] == target

    assert cache.bytes == before
    assert cache.find("/img/w_40/cat.png", {}) is not None


def test_one_entry_answers_every_version_with_its_lifetime(cache):
    version = version_of(RENDITION.fingerprint)
    answer(cache, "/img/w_40/cat.png?v=1")
    queries = ("", "?v=1", f"?v={version}", f"?a=b&v={version}")

    lifetimes = [cache_control(cache, f"/img/w_40/cat.png{query}") for query in queries]
    assert ["immutable" in text for text in lifetimes] == [False, False, True, True]


def test_a_query_that_a_signature_covers_is_part_of_the_key(cache):
    rest = "w_40/cat.png?v=3"
    target = f"/img/s--{KEYRING.sign(rest, source='photos')}--/{rest}"
    answer(cache, target)

    assert "immutable" in cache_control(cache, target)
    assert cache.find(target.removesuffix("3") + "4", {}) is None
    assert cache.find(target.partition("?")[0], {}) is None


@pytest.mark.parametrize(
    ("path", "offers"),
    [
        ("w_{},q_70/team/summer/photo-{}.jpg", [()]),
        ("c_fill,w_{},h_300,f_auto/e_sharpen/photo-{}.jpg", [(), ("webp",), ("avif", "webp")]),
        ("w_{}/" + 400 * "a" + "{}.jpg", [()]),
    ],
)
def test_the_entries_take_the_estimated_memory(cache, path, offers):
    tracemalloc.start()
    try:
        for number in range(200):
            answer(cache, "/img/" + path.format(number + 1, number), *offers)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert 0.8 * taken < cache.bytes < 1.3 * taken


def test_the_oldest_targets_are_evicted_beyond_the_limit(cache):
    for number in range(3000):
        answer(cache, f"/img/w_{number + 1}/cat.png")

    assert 0.9 * MAX_BYTES < cache.bytes <= MAX_BYTES
    assert cache.find("/img/w_1/cat.png", {}) is None
    assert cache.find("/img/w_3000/cat.png", {}) is not None


def test_a_long_target_is_not_stored(cache):
    answer(cache, f"/img/w_40/{600 * 'a'}.png")

    assert cache.bytes == 0
