import pytest

from imgserver.cache.memory import ENTRY_BYTES, MemorySettings, MemoryTier
from imgserver.testing import CacheContract, make_rendition

BODY = b"x" * 1000


def cache_for(entries: int) -> MemoryTier:
    return MemoryTier(MemorySettings(memory_bytes=entries * (len(BODY) + ENTRY_BYTES)))


class TestContract(CacheContract):
    @pytest.fixture
    def cache(self) -> MemoryTier:
        return cache_for(10)


def test_the_least_recently_used_leaves_first():
    cache = cache_for(2)
    for key in ("old", "used"):
        cache.put(key, make_rendition(BODY))
    cache.get("old")
    cache.put("new", make_rendition(BODY))

    assert cache.get("used") is None
    assert cache.get("old") is not None
    assert cache.statistics().evictions == 1


def test_bytes_never_exceed_the_limit_and_come_back_when_dropped():
    cache = cache_for(3)
    for number in range(20):
        cache.put(str(number), make_rendition(BODY))
        assert cache.statistics().bytes <= cache.statistics().limit_bytes

    for number in range(20):
        cache.drop(str(number))
    assert cache.statistics().bytes == 0
    assert cache.statistics().entries == 0


def test_a_body_over_the_item_limit_is_not_kept_and_replaces_nothing_stale():
    cache = MemoryTier(MemorySettings(memory_item_bytes=100))
    cache.put("a", make_rendition(b"small"))

    assert not cache.put("a", make_rendition(b"x" * 101))
    assert cache.get("a") is None


def test_no_memory_switches_the_tier_off():
    cache = MemoryTier(MemorySettings(memory_bytes=0))

    assert not cache.put("a", make_rendition())
    assert cache.get("a") is None


def test_a_sweep_drops_what_is_not_kept_and_gives_its_bytes_back():
    cache = cache_for(3)
    for number in range(3):
        cache.put(str(number), make_rendition(BODY, created=float(number)))

    assert cache.sweep(lambda rendition: rendition.created == 1) == 2
    assert [cache.get(str(number)) is not None for number in range(3)] == [False, True, False]
    assert cache.statistics().bytes == len(BODY) + ENTRY_BYTES
