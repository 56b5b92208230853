"""Hostile, broken and unsupported originals are refused early with the right error, and never shown in part."""

import os
import pickle
import random
import resource
import struct
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from imgserver.engine.job import Limits
from imgserver.engine.vips import Image as VipsImage
from imgserver.engine.vips import codecs, open_engine
from imgserver.errors import (
    BrokenImage,
    ImageOverLimit,
    ImgserverError,
    NotFound,
    OutputOverLimit,
    UnsupportedImage,
)
from imgserver.plan.plan import Dims, Fit, Orient, Px, Terminal
from tests import decompression_bombs
from tests.engine.conftest import SAMPLES, Renderer, difference, opened, saved

FIT = Fit(Px(200))


@pytest.mark.parametrize(
    ("name", "data", "limit"),
    list(decompression_bombs.refused()),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_decompression_bomb_is_refused_by_its_header(draw: Renderer, name: str, data: bytes, limit: str) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()

    with pytest.raises(ImageOverLimit) as caught:
        draw(data, FIT)

    assert caught.value.facts["limit"] == limit
    assert time.process_time() - started < 0.2
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 128 * 1024


def test_an_avif_with_a_false_header_is_refused(draw: Renderer) -> None:
    head = VipsImage.black(64, 64, bands=3).copy(interpretation="srgb").heifsave_buffer(compression="av1", effort=0)
    patched = bytes(head).replace(
        b"ispe\0\0\0\0" + (64).to_bytes(4, "big") * 2, b"ispe\0\0\0\0" + (16383).to_bytes(4, "big") * 2
    )

    with pytest.raises(ImgserverError) as caught:
        draw(patched, FIT)
    assert caught.value.status == 422


def test_text_in_an_original_is_not_in_the_result(draw: Renderer) -> None:
    result = draw(decompression_bombs.text_png(), metadata="all")

    assert result.size.width == 1
    assert b"planted-word" not in result.body


@pytest.mark.parametrize("name", list(decompression_bombs.STRANGERS))
def test_other_files_named_jpg_are_unsupported(draw: Renderer, name: str) -> None:
    with pytest.raises(UnsupportedImage):
        draw(decompression_bombs.STRANGERS[name], FIT)


def test_a_heic_with_a_brand_of_avif_is_unsupported_without_a_decoder(draw: Renderer) -> None:
    """A brand of AVIF with another codec must not reach a decoder that does not exist."""
    avif = bytes(
        VipsImage.black(64, 64, bands=3).copy(interpretation="srgb").heifsave_buffer(compression="av1", effort=0)
    )

    with pytest.raises(ImgserverError) as caught:
        draw(avif.replace(b"av01", b"hvc1").replace(b"av1C", b"hvcC"), FIT)
    assert caught.value.status in (415, 422)


def test_svg_is_off_by_default_and_drawn_within_the_limits(draw: Renderer) -> None:
    with pytest.raises(UnsupportedImage):
        draw(b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"/>', FIT)
    open_engine(svg=True)
    try:
        result = draw(decompression_bombs.SVG_HUGE, Fit(Px(64)), limits=Limits(svg=True), format="png")
        assert result.size.width == 64
    finally:
        open_engine()


def test_an_svg_loads_no_other_files(draw: Renderer, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(saved(Image.new("RGB", (50, 50), (255, 0, 0)), "PNG"))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink" width="50" height="50">'
        f'<image x:href="{(tmp_path / "secret.png").as_uri()}" width="50" height="50"/>'
        '<image x:href="secret.png" width="50" height="50"/></svg>'
    )
    open_engine(svg=True)
    try:
        result = draw(svg.encode(), limits=Limits(svg=True), format="png")
    finally:
        open_engine()
    assert opened(result.body).convert("RGBA").getextrema()[3] == (0, 0)


def test_all_other_loaders_are_blocked() -> None:
    read = codecs().read

    assert set(read) == {"jpg", "png", "webp", "gif", "avif", "tiff", "svg", "heic", "bmp", "ico"}
    with pytest.raises(Exception, match=r"blocked|no such operation|unable to load"):
        VipsImage.new_from_buffer(b"P6\n2 2\n255\n" + bytes(12), "")


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(source_bytes=1000), "source bytes"),
        (Limits(source_side=599), "source side"),
        (Limits(source_pixels=200_000), "source pixels"),
        (Limits(decoded_bytes=500_000), "decoded bytes"),
        (Limits(result_bytes=100), "result bytes"),
    ],
)
def test_the_error_names_the_limit_and_its_value(draw: Renderer, limits: Limits, limit: str) -> None:
    with pytest.raises(ImageOverLimit, match=limit) as caught:
        draw("coffee.png", FIT, limits=limits)
    assert caught.value.facts["value"] > caught.value.facts["allowed"]


def deep_png(*, interlaced: bool) -> bytes:
    """A PNG of 16 bits, written chunk by chunk: 400 x 300, four samples."""
    rows = zlib.compress((b"\0" + bytes(400 * 8)) * 300)
    passes = ((50, 38), (50, 38), (100, 37), (100, 75), (200, 75), (200, 150), (400, 150))
    if interlaced:
        rows = zlib.compress(b"".join((b"\0" + bytes(width * 8)) * height for width, height in passes))
    head = struct.pack(">IIBBBBB", 400, 300, 16, 6, 0, 0, int(interlaced))
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    packed = (struct.pack(">I", len(data)) + name + data for name, data in chunks)
    sums = (struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(part + total for part, total in zip(packed, sums, strict=True))


def test_an_image_that_streams_counts_one_byte_for_each_sample(draw: Renderer) -> None:
    deep = deep_png(interlaced=False)

    assert draw(deep, FIT, limits=Limits(decoded_bytes=400 * 300 * 4)).source_size == Dims(400, 300)
    with pytest.raises(ImageOverLimit, match="decoded bytes"):
        draw(deep, FIT, limits=Limits(decoded_bytes=400 * 300 * 4 - 1))
    with pytest.raises(ImageOverLimit, match="decoded bytes"):
        draw(deep_png(interlaced=True), FIT, limits=Limits(decoded_bytes=400 * 300 * 8 - 1))


@pytest.mark.parametrize(("subsampling", "per_pixel"), [("4:4:4", 6), ("4:2:0", 4)])
def test_a_progressive_jpeg_counts_its_coefficients(draw: Renderer, subsampling: str, per_pixel: int) -> None:
    data = saved(Image.new("RGB", (400, 300)), "JPEG", progressive=True, subsampling=subsampling)
    fits, too_large = (Limits(decoded_bytes=400 * 300 * per_pixel - less) for less in (0, 1))

    assert draw(data, FIT, limits=fits).source_size == Dims(400, 300)
    with pytest.raises(ImageOverLimit, match="decoded bytes"):
        draw(data, FIT, limits=too_large)


def test_a_result_over_the_limit_is_refused_before_decoding(draw: Renderer) -> None:
    started = time.process_time()
    with pytest.raises(OutputOverLimit, match="fit: 9000×"):
        draw("sunset.jpg", Fit(Px(9000), enlarge="allow"))
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize("limits", [Limits(output_side=149), Limits(output_pixels=149 * 100)])
def test_a_result_may_be_as_large_as_the_settings_allow(draw: Renderer, limits: Limits) -> None:
    assert draw("coffee.png", Fit(Px(140)), limits=limits).size.width == 140
    with pytest.raises(OutputOverLimit):
        draw("coffee.png", Fit(Px(150)), limits=limits)


def test_a_missing_file_a_folder_and_a_pipe_are_not_found(draw: Renderer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("gone.jpg", "pipe", "."):
        with pytest.raises(NotFound) as caught:
            draw(tmp_path / name)
        assert str(tmp_path) not in caught.value.detail


def test_an_empty_file_is_unsupported(draw: Renderer) -> None:
    with pytest.raises(UnsupportedImage, match="empty"):
        draw(b"")


def originals() -> dict[str, bytes]:
    with Image.open(SAMPLES / "cat.png") as cat:
        photo = cat.convert("RGB").resize((300, 200))
    frames = [photo, photo.rotate(90), photo.rotate(180)]
    movie = {"save_all": True, "append_images": frames[1:], "duration": 100}
    return {
        "baseline jpg": saved(photo, "JPEG"),
        "progressive jpg": saved(photo, "JPEG", progressive=True),
        "png": saved(photo, "PNG"),
        "webp": saved(photo, "WEBP"),
        "lossless webp": saved(photo, "WEBP", lossless=True),
        "gif": saved(photo, "GIF"),
        "animated gif": saved(photo, "GIF", **movie),
        "animated webp": saved(photo, "WEBP", **movie),
        "avif": saved(photo, "AVIF", speed=10),
        "tiff": saved(photo, "TIFF"),
        "tiff lzw": saved(photo, "TIFF", compression="tiff_lzw"),
    }


ORIGINALS = originals()


@pytest.mark.parametrize("name", list(ORIGINALS))
def test_a_truncated_original_is_broken_or_a_whole_image(draw: Renderer, name: str) -> None:
    data = ORIGINALS[name]
    whole = draw.image(data, Fit(Px(100)))

    for tenth in range(1, 11):
        short = data[: max(16, len(data) * tenth // 10 - 3)]
        try:
            shown = draw.image(short, Fit(Px(100)))
        except ImgserverError as error:
            assert error.status in (415, 422), (tenth, error)
            continue
        assert difference(shown, whole, side=8) < 12, f"half a picture at {tenth}/10"


@pytest.mark.parametrize("name", ["animated gif", "animated webp"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_animation_is_broken_for_every_frame(draw: Renderer, name: str, share: float) -> None:
    data = ORIGINALS[name][: int(len(ORIGINALS[name]) * share)]

    for frames in ("all", "first"):
        with pytest.raises(BrokenImage):
            draw(data, Fit(Px(100)), format="webp", frames=frames)


def test_a_gif_without_its_trailer_is_shown(draw: Renderer) -> None:
    """Some encoders omit the trailer, and no pixel is missing."""
    data = ORIGINALS["animated gif"]
    assert data[-1:] == b";"

    assert draw(data[:-1], format="webp", frames="all").size.frames == 3


@pytest.mark.parametrize("name", list(ORIGINALS))
def test_flipped_bits_never_cause_a_server_fault(draw: Renderer, name: str) -> None:
    dice = random.Random(name)
    for _ in range(25):
        data = bytearray(ORIGINALS[name])
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(12, len(data))] ^= 1 << dice.randrange(8)
        try:
            draw(bytes(data), Orient(), Fit(Px(60)), format="png")
        except ImgserverError as error:
            assert error.status in (400, 415, 422), error
            assert "original" not in error.detail


def test_a_file_with_the_magic_of_another_format_is_refused(draw: Renderer) -> None:
    for magic in (
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0",
        b"\0\0\0\x1cftypavif",
    ):
        for data in ORIGINALS.values():
            with pytest.raises(ImgserverError) as caught:
                draw(magic + data, Fit(Px(60)), format="png")
            assert caught.value.status in (415, 422)


def test_the_payload_of_a_polyglot_is_not_in_the_result(draw: Renderer) -> None:
    for data in (ORIGINALS["baseline jpg"] + b"PK\x03\x04payload", ORIGINALS["gif"] + b"<script>payload</script>"):
        assert b"payload" not in draw(data, metadata="all").body


def test_errors_are_unpickled_without_libvips(draw: Renderer) -> None:
    with pytest.raises(BrokenImage) as caught:
        draw(ORIGINALS["png"][:5000], Fit(Px(60)), terminal=Terminal("lqip"))

    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.detail) == (BrokenImage, caught.value.detail)
    assert b"pyvips" not in pickle.dumps(caught.value)
    assert "/" not in copy.detail
