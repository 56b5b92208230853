"""Contracts for those who write sources and caches: subclass one in your tests, give it your own, and run it."""

import dataclasses
from typing import Any

import pytest

from imgserver.caches import Cache
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
        fingerprint=Fingerprint(size=len(body), modified_ns=1, inode=1),
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
