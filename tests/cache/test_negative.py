"""The negative cache, with a clock that tests advance."""

import traceback
import tracemalloc

import pytest

from imgserver import errors
from imgserver.cache.negative import MAX_BYTES, NegativeCache
from imgserver.errors import BrokenImage, ImgserverError, NotFound, UnsupportedImage
from imgserver.plan.canonical import digest
from imgserver.plan.rendition import Fingerprint

FINGERPRINT, OTHER = Fingerprint("one"), Fingerprint("other")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def negative_cache(clock: Clock) -> NegativeCache:
    return NegativeCache(clock)


def ttls(negative_cache: NegativeCache, clock: Clock, error: ImgserverError, *, times: int) -> list[float]:
    """The TTLs of an error that is stored again whenever its entry expires."""
    seconds = []
    for _ in range(times):
        negative_cache.put("key", error, fingerprint=FINGERPRINT, generations=())
        entry = negative_cache.get("key", ())
        assert entry is not None
        seconds.append(entry.ttl_seconds)
        clock.now += entry.ttl_seconds
        assert negative_cache.get("key", ()) is None
    return seconds


def test_the_ttl_doubles_up_to_the_max_age_of_the_error_and_a_minute(negative_cache, clock):
    assert ttls(negative_cache, clock, UnsupportedImage(), times=9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    clock.now += 1000
    negative_cache.clear()
    assert ttls(negative_cache, clock, NotFound(), times=7) == [1, 2, 4, 8, 16, 30, 30]


def test_a_changed_original_starts_with_the_first_ttl(negative_cache, clock):
    ttls(negative_cache, clock, BrokenImage(), times=5)
    negative_cache.put("key", BrokenImage(), fingerprint=OTHER, generations=())

    assert negative_cache.get("key", ()).ttl_seconds == 1


def test_a_purge_invalidates_an_entry(negative_cache):
    negative_cache.put("key", BrokenImage(), fingerprint=FINGERPRINT, generations=(("a", ""),))

    assert negative_cache.get("key", (("a", ""),)) is not None
    assert negative_cache.get("key", (("a", "token"),)) is None


def kinds(of: type[ImgserverError] = ImgserverError) -> list[type[ImgserverError]]:
    return [of, *(kind for below in of.__subclasses__() for kind in kinds(below))]


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind.__module__ == errors.__name__])
def test_only_client_errors_that_caches_may_store_are_stored(negative_cache, kind):
    negative_cache.put("key", kind(), fingerprint=FINGERPRINT, generations=())

    assert (negative_cache.get("key", ()) is not None) is (400 <= kind.status < 500 and kind.cache_seconds > 0)


@pytest.mark.parametrize(("groups", "detail"), [(0, 0), (8, 20), (40, 20), (8, 4000)])
def test_the_oldest_entries_are_evicted_when_all_take_more_than_the_limit(negative_cache, groups, detail):
    tracemalloc.start()
    try:
        for number in range(4000):
            key = digest(str(number))
            generations = tuple((f"d{digest(key, str(group))[:16]}", "") for group in range(groups))
            error = BrokenImage(f"{number}".zfill(detail))
            negative_cache.put(key, error, fingerprint=FINGERPRINT, generations=generations)

        assert 0.5 * MAX_BYTES < tracemalloc.get_traced_memory()[0] < 1.1 * MAX_BYTES
    finally:
        tracemalloc.stop()
    assert negative_cache.statistics().entries < 4000
    assert negative_cache.get(digest("0"), ()) is None
    assert key in negative_cache


def test_each_hit_raises_a_copy_of_the_error(negative_cache):
    negative_cache.put("key", BrokenImage("torn", at=3), fingerprint=FINGERPRINT, generations=())
    entry = negative_cache.get("key", ())
    for _ in range(3):
        with pytest.raises(BrokenImage) as caught:
            raise negative_cache.hit(entry)

    assert (caught.value.detail, caught.value.facts) == ("torn", {"at": 3})
    assert len(traceback.extract_tb(caught.value.__traceback__)) == 1
    assert negative_cache.statistics().hits == 3
