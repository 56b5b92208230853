"""The contract of cache tiers."""

import pytest

from imgserver.cache import SweepResult, Tier
from imgserver.testing.renditions import make_rendition


class TierContract:
    """What every cache tier does. Provide the fixture `tier`: started, empty, with space for a few small renditions."""

    KEY = f"00000000/1/{'a' * 32}/{'b' * 32}"

    @pytest.fixture
    async def tier(self) -> Tier:
        raise NotImplementedError

    async def test_get_returns_what_was_put_with_every_field(self, tier: Tier) -> None:
        rendition = make_rendition(
            modified=5, fresh_until=3e9, expires=4e9, generations=(("a", ""), ("s0123456789abcdef", "token"))
        )

        assert await tier.put("1/a/b", rendition)
        assert await tier.get("1/a/b") == rendition

    async def test_an_unknown_key_is_a_miss(self, tier: Tier) -> None:
        assert await tier.get("1/unknown/b") is None

    async def test_the_last_put_wins(self, tier: Tier) -> None:
        await tier.put("1/a/b", make_rendition(b"first"))
        await tier.put("1/a/b", make_rendition(b"second"))

        found = await tier.get("1/a/b")
        assert found is not None
        assert found.body == b"second"

    async def test_a_dropped_key_is_a_miss_and_others_stay(self, tier: Tier) -> None:
        await tier.put("1/a/b", make_rendition(b"b"))
        await tier.put("1/a/c", make_rendition(b"c"))
        await tier.drop("1/a/b")
        await tier.drop("1/never/there")

        found = await tier.get("1/a/c")
        assert await tier.get("1/a/b") is None
        assert found is not None
        assert found.body == b"c"

    async def test_an_empty_body_is_a_body(self, tier: Tier) -> None:
        await tier.put("1/a/b", make_rendition(b""))

        assert await tier.get("1/a/b") == make_rendition(b"")

    async def test_keys_may_be_any_text(self, tier: Tier) -> None:
        keys = ["", "../../etc/passwd", "/", "\0", "x" * 1000, "ä*?[a-z]\n"]
        for number, key in enumerate(keys):
            await tier.put(key, make_rendition(str(number).encode()))

        found = [await tier.get(key) for key in keys]
        assert [rendition and rendition.body for rendition in found] == [b"0", b"1", b"2", b"3", b"4", b"5"]

    async def test_a_rendition_that_put_declined_is_a_miss(self, tier: Tier) -> None:
        rendition = make_rendition(etag="\ud800")
        stored = await tier.put("1/a/b", rendition)

        assert await tier.get("1/a/b") == (rendition if stored else None)

    async def test_a_sweep_removes_records_that_are_not_kept_and_no_others(self, tier: Tier) -> None:
        invalid = self.KEY.replace("b", "c")
        await tier.put(self.KEY, make_rendition(generations=(("a", "new"),)))
        await tier.put(invalid, make_rendition(generations=(("a", "old"),)))

        assert await tier.sweep(lambda _, generations: generations == (("a", "new"),)) == SweepResult(1)
        assert await tier.get(self.KEY) is not None
        assert await tier.get(invalid) is None

    async def test_each_lookup_is_counted_once(self, tier: Tier) -> None:
        await tier.put("1/a/b", make_rendition())
        await tier.get("1/a/b")
        await tier.get("1/unknown/b")

        statistics = tier.statistics()
        assert (statistics.hits, statistics.misses, statistics.errors or 0, statistics.bypassed or 0) == (1, 1, 0, 0)

    async def test_nothing_raises_after_close(self, tier: Tier) -> None:
        await tier.close()
        await tier.put("1/a/b", make_rendition())
        await tier.get("1/a/b")
        await tier.drop("1/a/b")
        await tier.sweep(lambda *_: True)
