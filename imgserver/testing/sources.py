"""The contracts of sources and origins."""

from contextlib import suppress

import pytest

from imgserver.errors import ImageOverLimit, NotFound
from imgserver.sources import Source
from imgserver.sources.origin import Origin, OriginResponse, Validators
from imgserver.sources.source import REMOTE_ERRORS

# Paths that file systems, URLs or databases refuse.
ODD_PATHS = ("a\0b.jpg", "x" * 300, "x/" * 3000 + "x", "\udcff.jpg", "a\nb.jpg", " ", "%2e%2e/a.jpg", "\u202ea.jpg")


class SourceContract:
    """The contract of every source. Provide `source`, started, which has `IMAGE` at `present` and nothing at
    `absent`."""

    IMAGE = b"\xff\xd8\xff\xe0 not quite an image"
    present = "folder/present.jpg"
    absent = "folder/absent.jpg"

    @pytest.fixture
    def source(self) -> Source:
        raise NotImplementedError

    async def test_an_opened_original_can_be_read_by_its_path(self, source: Source) -> None:
        async with source.open(self.present) as original:
            with open(original.path, "rb") as file:  # noqa: ASYNC230, PTH123
                assert file.read() == self.IMAGE
            assert original.head == self.IMAGE
            assert original.size_bytes == len(self.IMAGE)

    async def test_the_fingerprint_is_that_of_the_opened_original(self, source: Source) -> None:
        async with source.open(self.present) as original:
            assert original.fingerprint == await source.fingerprint(self.present)

    async def test_a_fetched_original_can_be_opened(self, source: Source) -> None:
        await source.fetch(self.present)
        async with source.open(self.present) as original:
            assert original.head == self.IMAGE

    async def test_the_head_of_a_local_original_is_that_of_the_opened_one(self, source: Source) -> None:
        assert await source.head(self.present) in (None, self.IMAGE)

    async def test_the_identity_of_an_original_is_a_path_to_it(self, source: Source) -> None:
        identity = await source.identity(self.present)

        assert await source.identity(identity) == identity
        assert await source.fingerprint(identity) == await source.fingerprint(self.present)

    async def test_an_absent_original_is_not_found(self, source: Source) -> None:
        with pytest.raises(NotFound):
            await source.fingerprint(self.absent)
        with pytest.raises(NotFound):
            async with source.open(self.absent):
                pass

    async def test_an_odd_path_raises_an_error_of_the_contract(self, source: Source) -> None:
        for path in ODD_PATHS:
            for request in (source.fingerprint(path), source.fetch(path), source.open(path).__aenter__()):
                with suppress(*REMOTE_ERRORS):
                    await request

    async def test_a_listing_is_bounded_and_holds_existing_paths(self, source: Source) -> None:
        paths = await source.listing(1)

        assert len(paths) <= 1
        for path in paths:
            assert await source.fingerprint(path)

    async def test_an_original_is_there_after_a_purge(self, source: Source) -> None:
        await source.fetch(self.present)
        await source.forget(self.present)
        source.invalidate(lambda path: path == self.present)
        await source.sweep()

        async with source.open(self.present) as original:
            assert original.head == self.IMAGE

    async def test_a_working_source_passes_its_check(self, source: Source) -> None:
        await source.check()


class OriginContract:
    """The contract of every origin. Provide `origin`, which has `IMAGE` at `present` and nothing at `absent`."""

    IMAGE = b"\xff\xd8\xff\xe0 not quite an image" * 10_000
    present = "folder/present one ä%2f.jpg"
    absent = "folder/absent.jpg"

    @pytest.fixture
    def origin(self) -> Origin:
        raise NotImplementedError

    async def test_a_fetch_writes_the_whole_body(self, origin: Origin) -> None:
        response, body = await fetched(origin, self.present)

        assert response is not None
        assert body == self.IMAGE

    async def test_stat_returns_the_response_of_fetch(self, origin: Origin) -> None:
        response, _ = await fetched(origin, self.present)

        assert await origin.stat(self.present) == response

    async def test_an_unchanged_file_is_not_written(self, origin: Origin) -> None:
        known = (await origin.stat(self.present)).validators

        assert await fetched(origin, self.present, known=known) == (None, b"")

    async def test_a_changed_file_is_written(self, origin: Origin) -> None:
        known = Validators(etag='"of another state"', modified=1, size_bytes=1)
        response, body = await fetched(origin, self.present, known=known)

        assert response is not None
        assert body == self.IMAGE

    async def test_an_absent_file_is_not_found(self, origin: Origin) -> None:
        for path in (self.absent, self.present + "/below"):
            with pytest.raises(NotFound):
                await origin.stat(path)
            with pytest.raises(NotFound):
                await fetched(origin, path)

    async def test_an_exception_of_the_sink_ends_the_fetch_and_reaches_the_caller(self, origin: Origin) -> None:
        async def sink(_: bytes) -> None:
            raise ImageOverLimit("no more")

        with pytest.raises(ImageOverLimit, match="no more"):
            await origin.fetch(self.present, sink)

    async def test_a_working_origin_passes_its_check(self, origin: Origin) -> None:
        await origin.check()


async def fetched(origin: Origin, path: str, *, known: Validators | None = None) -> tuple[OriginResponse | None, bytes]:
    """The response of a fetch, and the body that it wrote."""
    body = bytearray()

    async def sink(chunk: bytes) -> None:
        body.extend(chunk)

    return await origin.fetch(path, sink, known=known), bytes(body)
