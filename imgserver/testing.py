"""Contracts for those who write sources and caches: subclass one in your tests, give it your own, and run it."""

import dataclasses
from typing import Any

import pytest

from imgserver.caches import Cache, Tier
from imgserver.errors import NotFound
from imgserver.plan import Dims
from imgserver.rendition import Fingerprint, Rendition
from imgserver.sources import Source


def make_rendition(body: bytes = b"picture", **changes: Any) -> Rendition:
    """A rendition that nobody rendered; any field can be changed by name."""
    plain = Rendition(
        body=body,
        media_type="image/webp",
        etag="0" * 32,
        size=Dims(4, 3),
        source_format="jpg",
        fingerprint=Fingerprint("as it was"),
        modified=0,
        created=0.0,
        render_seconds=0.1,
    )
    return dataclasses.replace(plain, **changes)


class CacheContract:
    """What every cache keeps to. Provide the fixture `cache`, empty and with room for a few small renditions."""

    @pytest.fixture
    def cache(self) -> Cache:
        raise NotImplementedError

    def test_what_was_put_is_got(self, cache: Cache) -> None:
        rendition = make_rendition()

        assert cache.put("a", rendition)
        assert cache.get("a") == rendition

    def test_an_unknown_key_is_a_miss(self, cache: Cache) -> None:
        assert cache.get("unknown") is None

    def test_the_last_put_wins(self, cache: Cache) -> None:
        cache.put("a", make_rendition(b"first"))
        cache.put("a", make_rendition(b"second"))

        found = cache.get("a")
        assert found is not None
        assert found.body == b"second"

    def test_what_was_dropped_is_a_miss(self, cache: Cache) -> None:
        cache.put("a", make_rendition())
        cache.drop("a")
        cache.drop("never there")

        assert cache.get("a") is None

    def test_keys_do_not_meet(self, cache: Cache) -> None:
        cache.put("a", make_rendition(b"a"))
        cache.put("b", make_rendition(b"b"))
        cache.drop("a")

        found = cache.get("b")
        assert found is not None
        assert found.body == b"b"


class TierContract:
    """What every tier keeps to. Provide the fixture `tier`, started, empty and with room for a few small renditions."""

    @pytest.fixture
    async def tier(self) -> Tier:
        raise NotImplementedError

    async def test_what_was_put_is_got_with_every_field(self, tier: Tier) -> None:
        rendition = make_rendition(
            modified=5, fresh_until=1e12, expires=2e12, marks=(("a", ""), ("s0123456789abcdef", "token"))
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

    async def test_what_was_dropped_is_a_miss_and_others_stay(self, tier: Tier) -> None:
        await tier.put("1/a/b", make_rendition(b"a"))
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

    async def test_what_no_record_can_hold_is_declined(self, tier: Tier) -> None:
        assert not await tier.put("1/a/b", make_rendition(etag="\ud800"))
        assert await tier.get("1/a/b") is None


class SourceContract:
    """What every source keeps to. Provide `source`, which has `PICTURE` at `present` and nothing at `absent`."""

    PICTURE = b"\xff\xd8\xff\xe0 not quite a picture"
    present = "folder/present.jpg"
    absent = "folder/absent.jpg"

    @pytest.fixture
    def source(self) -> Source:
        raise NotImplementedError

    async def test_an_opened_original_can_be_read_by_its_path(self, source: Source) -> None:
        async with source.open(self.present) as original:
            with open(original.path, "rb") as file:  # noqa: ASYNC230, PTH123
                assert file.read() == self.PICTURE
            assert original.head == self.PICTURE

    async def test_the_fingerprint_is_that_of_the_opened_original(self, source: Source) -> None:
        async with source.open(self.present) as original:
            assert original.fingerprint == await source.fingerprint(self.present)

    async def test_what_is_absent_is_not_found(self, source: Source) -> None:
        with pytest.raises(NotFound):
            await source.fingerprint(self.absent)
        with pytest.raises(NotFound):
            async with source.open(self.absent):
                pass
