"""Contracts for plug-ins, and fakes.

A contract is a class of tests. To test a dialect, a source, an origin, a cache tier or an encoder, subclass its
contract in your tests and provide the object under test.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import pickle
from typing import Any

import pytest

from imgserver.cache import SweepResult, Tier
from imgserver.dialects import Dialect, DialectConfig, MountedDialects
from imgserver.dialects.native import NativeSettings
from imgserver.engine import ENCODERS
from imgserver.engine.job import Limits, Quality
from imgserver.errors import (
    BadRequest,
    ImageOverLimit,
    ImgserverError,
    NotFound,
    OutputOverLimit,
    SignatureRefused,
)
from imgserver.plan.canonical import normalize
from imgserver.plan.formats import FORMATS
from imgserver.plan.geometry import bind_plan
from imgserver.plan.plan import Dims, Output, SourceRef
from imgserver.plan.rendition import Fingerprint, Rendition
from imgserver.security.signing import Key, Keyring
from imgserver.sources import Source
from imgserver.sources.origin import Origin, OriginResponse, Validators


def make_rendition(body: bytes = b"picture", **changes: Any) -> Rendition:
    """A rendition without a render; any field can be changed by name."""
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


class DialectContract:
    """The contract of every dialect. Provide `make`, which is its factory.

    `options` are texts that `build` accepts, `refused` texts that it must refuse.
    """

    ref = SourceRef("photos", "folder/cat.jpg")
    options: tuple[str, ...] = ("",)
    refused: tuple[str, ...] = ()

    HOSTILE = ("", "%", "%00", "%2e%2e/x", "../x", "x/../../y", "\0", "ä", "a b", "#x", "?x", "\\x", "x" * 10_000)

    UNSIGNED = DialectConfig(NativeSettings(), frozenset({"photos", "shop"}), "photos")
    KEYRING = Keyring((Key(bytes(32)),), required=True)

    def make(self, config: DialectConfig) -> Dialect:
        raise NotImplementedError

    @pytest.fixture
    def dialect(self) -> Dialect:
        return self.make(self.UNSIGNED)

    def test_the_mount_is_a_path_that_a_server_can_serve(self, dialect: Dialect) -> None:
        assert MountedDialects({"dialect": dialect}).mounts == (dialect.mount,)

    def test_a_built_target_names_its_original(self, dialect: Dialect) -> None:
        targets = [dialect.build(self.ref, text) for text in self.options]

        assert all(target.startswith(dialect.mount) for target in targets)
        assert [dialect.parse(target).ref for target in targets] == [self.ref] * len(targets)

    def test_equal_targets_give_equal_requests_that_can_be_pickled(self, dialect: Dialect) -> None:
        for text in self.options:
            request = dialect.parse(dialect.build(self.ref, text))

            assert dialect.parse(dialect.build(self.ref, text)) == request
            assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301

    def test_every_plan_can_be_bound_and_normalized(self, dialect: Dialect) -> None:
        for text in self.options:
            plan = dialect.parse(dialect.build(self.ref, text)).plan

            assert bind_plan(plan, Dims(400, 300)).before == Dims(400, 300)
            assert normalize(normalize(plan)) == normalize(plan)

    def test_a_target_outside_the_mount_is_not_found(self, dialect: Dialect) -> None:
        with pytest.raises(NotFound):
            dialect.parse("/elsewhere" + dialect.mount + "cat.jpg")

    def test_wrong_options_are_a_bad_request(self, dialect: Dialect) -> None:
        for text in self.refused:
            with pytest.raises(BadRequest):
                dialect.build(self.ref, text)

    def test_unsigned_targets_are_refused_if_signatures_are_required(self, dialect: Dialect) -> None:
        target = dialect.build(self.ref)

        with pytest.raises(SignatureRefused):
            self.make(dataclasses.replace(self.UNSIGNED, keyring=self.KEYRING)).parse(target)
        dialect.adopt(presets={}, keyring=self.KEYRING)
        with pytest.raises(SignatureRefused):
            dialect.parse(target)

    def test_a_hostile_target_is_refused_or_names_a_path_without_dot_segments(self, dialect: Dialect) -> None:
        for text in self.HOSTILE:
            # Any other exception fails the test.
            with contextlib.suppress(ImgserverError):
                path = dialect.parse(dialect.mount + text).ref.path
                assert not {"", ".", ".."} & set(path.split("/"))
                assert "\0" not in path


class TierContract:
    """What every cache tier does. Provide the fixture `tier`: started, empty, with space for a few small renditions."""

    KEY = f"00000000/1/{'a' * 32}/{'b' * 32}"

    @pytest.fixture
    async def tier(self) -> Tier:
        raise NotImplementedError

    async def test_get_returns_what_was_put_with_every_field(self, tier: Tier) -> None:
        rendition = make_rendition(
            modified=5, fresh_until=1e12, expires=2e12, generations=(("a", ""), ("s0123456789abcdef", "token"))
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


class EncoderContract:
    """The contract of every encoder. `format` is its name in `engine.ENCODERS` and in `plan.formats.FORMATS`.

    Overwrite `size_of` for a format that libvips cannot read. These tests load libvips into their process, which must
    not fork afterwards.
    """

    format: str

    SECRET = b"taken at 47.37 N 8.54 E"

    def size_of(self, body: bytes) -> tuple[int, int]:
        """Width and height of one frame of a file, in pixels."""
        from imgserver.engine.vips import LOADERS, Image

        image = getattr(Image, LOADERS[self.format][1] + "_buffer")(body)
        return image.width, image.height

    @pytest.fixture(autouse=True)
    def engine(self) -> None:
        from imgserver.engine.vips import open_engine

        open_engine()

    def encode(self, *images: Any, **output: Any) -> bytes:
        """The file, made as a worker makes it, of one image or of the frames of an animation."""
        from imgserver.engine.encode import prepare, write
        from imgserver.engine.frames import Frames

        frames = Frames(images, delays=(100,) * len(images) if len(images) > 1 else ())
        return write(prepare(frames, self.format, Output(self.format, **output), Quality()), Limits())

    def test_the_row_of_the_format_is_complete(self) -> None:
        row = FORMATS[self.format]

        assert row.name == self.format
        assert row.writable
        assert row.media_type.startswith("image/")
        assert row.suffix.startswith(".")

    def test_one_pixel_is_an_image(self) -> None:
        assert self.size_of(self.encode(make_image(1, 1, bands=3))) == (1, 1)

    @pytest.mark.parametrize("bands", [1, 2, 3, 4])
    def test_gray_and_color_are_written_with_and_without_alpha(self, bands: int) -> None:
        assert self.size_of(self.encode(make_image(9, 7, bands=bands))) == (9, 7)

    @pytest.mark.parametrize("quality", [1, 100])
    def test_both_ends_of_the_quality_scale_are_written(self, quality: int) -> None:
        assert self.size_of(self.encode(make_image(9, 7, bands=3), quality=quality, lossless=True)) == (9, 7)

    def test_equal_images_give_equal_bytes(self) -> None:
        assert self.encode(make_image(9, 7, bands=4)) == self.encode(make_image(9, 7, bands=4))

    def test_an_animation_has_frames_of_the_images_size(self) -> None:
        if FORMATS[self.format].animation:
            images = [make_image(9, 7, bands=3, seed=seed) for seed in (1, 2, 3)]

            assert self.size_of(self.encode(*images)) == (9, 7)

    def test_an_image_over_the_limits_is_refused_before_it_is_encoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from imgserver.engine.vips import Image

        monkeypatch.delitem(ENCODERS, self.format)
        row = FORMATS[self.format]
        sizes = [(row.max_side + 1, 1), (1, row.max_side + 1)]
        if row.max_pixels is not None:
            sizes.append((row.max_side, row.max_pixels // row.max_side + 1))

        for width, height in sizes:
            with pytest.raises(OutputOverLimit):
                self.encode(Image.black(width, height, bands=3))

    def test_metadata_is_not_written(self) -> None:
        from imgserver.engine.vips import Blob

        image = make_image(9, 7, bands=3).copy()
        for name in ("exif-data", "xmp-data", "iptc-data", "icc-profile-data"):
            image.set_type(Blob, name, self.SECRET)

        assert self.SECRET not in self.encode(image)


def make_image(width: int, height: int, *, bands: int, seed: int = 0) -> Any:
    """A libvips image with a value of its own in each sample, as far as 8 bits go: gray or sRGB, 1 to 4 bands."""
    from imgserver.engine.vips import Image

    data = bytes((37 * index + seed) % 256 for index in range(width * height * bands))
    image = Image.new_from_memory(data, width, height, bands, "uchar")
    return image.copy(interpretation="b-w" if bands <= 2 else "srgb")


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

    async def test_an_absent_original_is_not_found(self, source: Source) -> None:
        with pytest.raises(NotFound):
            await source.fingerprint(self.absent)
        with pytest.raises(NotFound):
            async with source.open(self.absent):
                pass

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


class FakeOrigin(Origin):
    """An origin in memory whose state tests change. Every request raises `fault`. A fetch waits for `held` in the
    middle of the body, a stat before its response. Responses have no validators if `has_validators` is false."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = files or {}
        self.has_validators = True
        self.max_age_seconds: int | None = None
        self.fault: Exception | None = None
        self.held: asyncio.Event | None = None
        self.fetches: list[str] = []
        self.stats: list[str] = []
        self.fetching = self.most_fetching = 0
        self.closed = False

    async def fetch(self, path: str, sink: Any, *, known: Validators | None = None) -> OriginResponse | None:
        self.fetches.append(path)
        self.fetching += 1
        self.most_fetching = max(self.most_fetching, self.fetching)
        try:
            response = self.response(path)
            if self.has_validators and known == response.validators:
                await self._wait()
                return None
            body, half = self.files[path], len(self.files[path]) // 2
            await sink(body[:half])
            await self._wait()
            await sink(body[half:])
            return response
        finally:
            self.fetching -= 1

    async def stat(self, path: str) -> OriginResponse:
        self.stats.append(path)
        await self._wait()
        return self.response(path)

    async def close(self) -> None:
        self.closed = True

    def response(self, path: str) -> OriginResponse:
        if self.fault is not None:
            raise self.fault
        if path not in self.files:
            raise NotFound()
        body = self.files[path]
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        validators = Validators(etag, 1_700_000_000, len(body)) if self.has_validators else Validators()
        return OriginResponse(validators, self.max_age_seconds)

    async def _wait(self) -> None:
        if self.held is not None:
            await self.held.wait()
        if self.fault is not None:
            raise self.fault
