import pytest

from imgserver.cache.memory import ENTRY_BYTES, MemorySettings, MemoryTier
from imgserver.testing import TierContract, make_rendition

BODY = b"x" * 1000


def tier_for(entries: int) -> MemoryTier:
    return MemoryTier(MemorySettings(memory_bytes=entries * (len(BODY) + ENTRY_BYTES)))


class TestContract(TierContract):
    @pytest.fixture
    async def tier(self) -> MemoryTier:
        return tier_for(10)


def test_the_least_recently_used_entry_is_evicted_first():
    tier = tier_for(2)
    for key in ("old", "used"):
        tier.put_nowait(key, make_rendition(BODY))
    tier.get_nowait("old")
    tier.put_nowait("new", make_rendition(BODY))

    assert tier.get_nowait("used") is None
    assert tier.get_nowait("old") is not None
    assert tier.statistics().evictions == 1


def test_bytes_never_exceed_the_limit_and_a_drop_frees_them():
    tier = tier_for(3)
    for number in range(20):
        tier.put_nowait(str(number), make_rendition(BODY))
        assert tier.statistics().bytes <= tier.statistics().limit_bytes

    for number in range(20):
        tier.drop_nowait(str(number))
    assert tier.statistics().bytes == 0
    assert tier.statistics().entries == 0


def test_a_body_beyond_the_limit_is_not_stored_and_removes_the_old_one():
    tier = MemoryTier(MemorySettings(memory_item_bytes=100))
    tier.put_nowait("a", make_rendition(b"small"))

    assert not tier.put_nowait("a", make_rendition(b"x" * 101))
    assert tier.get_nowait("a") is None


def test_a_limit_of_zero_disables_the_tier():
    tier = MemoryTier(MemorySettings(memory_bytes=0))

    assert not tier.put_nowait("a", make_rendition())
    assert tier.get_nowait("a") is None


def test_a_sweep_frees_the_bytes_of_what_it_removes():
    tier = tier_for(3)
    for number in range(3):
        tier.put_nowait(str(number), make_rendition(BODY, expires=float(number)))

    assert tier.sweep_nowait(lambda expires, _: expires == 1) == 2
    assert [tier.get_nowait(str(number)) is not None for number in range(3)] == [False, True, False]
    assert tier.statistics().bytes == len(BODY) + ENTRY_BYTES
