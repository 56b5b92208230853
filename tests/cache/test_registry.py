"""A tier from outside the package: one class and one row."""

import pytest

from imgserver.cache import TIERS, build_cache
from imgserver.cache.memory import MemorySettings
from imgserver.cache.tier import SweepResult, TierStatistics
from imgserver.testing import TierContract, make_rendition


class DictTier:
    """The smallest tier: a dictionary without a limit."""

    is_shared = False

    def __init__(self) -> None:
        self.records = {}
        self.closed = False
        self.hits = self.misses = 0

    async def start(self):
        pass

    async def close(self):
        self.closed = True

    async def get(self, key, _groups=(), /):
        found = self.records.get(key)
        self.hits += found is not None
        self.misses += found is None
        return found

    async def put(self, key, rendition):
        self.records[key] = rendition
        return True

    async def drop(self, key):
        self.records.pop(key, None)

    async def sweep(self, is_kept, _groups=(), /):
        removed = [key for key, one in self.records.items() if not is_kept(one.expires, one.generations)]
        for key in removed:
            del self.records[key]
        return SweepResult(len(removed))

    def statistics(self):
        return TierStatistics(hits=self.hits, misses=self.misses, entries=len(self.records))


class TestContract(TierContract):
    @pytest.fixture
    async def tier(self):
        return DictTier()


async def test_a_registered_tier_is_looked_up_swept_and_counted(monkeypatch):
    tier = DictTier()
    monkeypatch.setitem(TIERS, "dict", lambda _: tier)
    cache = build_cache(MemorySettings(memory_bytes=0))
    await cache.start()
    cache.put("key", make_rendition(generations=await cache.generations.fetch(["a"])))
    await cache.wait_written("key", seconds=5)
    found = await cache.find("key")
    result = await cache.purge(["a"])
    statistics = cache.statistics()
    await cache.close()

    assert found == (make_rendition(generations=(("a", ""),)), "dict")
    assert result.removed == {"memory": 0, "dict": 1}
    assert statistics.tiers["dict"].hits == 1
    assert tier.closed


async def test_a_factory_may_leave_its_tier_out(monkeypatch):
    monkeypatch.setitem(TIERS, "dict", lambda _: None)

    assert list(build_cache(MemorySettings()).statistics().tiers) == ["memory"]
