"""HEIC originals, with and without the extra; they are decoded after the limits are checked."""

import resource
import struct
from collections.abc import Iterator

import pytest
from PIL import Image

from imgserver.engine import heif
from imgserver.engine.describe import describe
from imgserver.engine.job import Limits
from imgserver.engine.vips import Image as VipsImage
from imgserver.engine.vips import codecs
from imgserver.errors import BrokenImage, ImageOverLimit, ImgserverError, NotInThisBuild, UnsupportedImage
from imgserver.plan.plan import Crop, Dims, Fit, Orient, Px, Terminal
from imgserver.plan.sniffing import HEAD_BYTES, Sniffed, sniff
from imgserver.runtime import resources
from imgserver.runtime.resources import MIB
from tests.engine.conftest import SAMPLES, Renderer, difference, opened, saved
from tests.heic_files import deep_heic, heic

FIT = Fit(Px(120))


def photo(width: int = 300) -> Image.Image:
    with Image.open(SAMPLES / "coffee.png") as image:
        return image.convert("RGB").resize((width, width * 2 // 3))


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(resources, "reads_heic", lambda: False)
    codecs.cache_clear()
    yield
    codecs.cache_clear()


@pytest.mark.parametrize(
    ("output", "media_type"),
    [
        ({}, "image/jpeg"),
        ({"format": "auto"}, "image/jpeg"),
        ({"format": "auto", "offers": ("avif", "webp")}, "image/avif"),
        ({"format": "webp"}, "image/webp"),
    ],
)
def test_a_heic_becomes_a_format_that_clients_show(draw: Renderer, output: dict[str, object], media_type: str) -> None:
    result = draw(heic(photo()), Orient(), FIT, **output)

    assert (result.media_type, result.source_format, result.source_size) == (media_type, "heic", Dims(300, 200))
    assert difference(opened(result.body), photo()) < 20


def test_heic_is_not_written(draw: Renderer) -> None:
    with pytest.raises(NotInThisBuild):
        draw("cat.png", format="heic")


def test_a_transparent_heic_becomes_a_png(draw: Renderer) -> None:
    image = photo().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))

    result = draw(heic(image), FIT)

    assert result.media_type == "image/png"
    assert difference(on_gray(opened(result.body)), on_gray(image)) < 20


def on_gray(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image)


def test_premultiplied_colors_are_unpremultiplied(draw: Renderer) -> None:
    clear = Image.new("RGBA", (64, 64), (200, 60, 40, 128))

    shown = draw.image(heic(clear, premultiplied_alpha=True), FIT)
    plain = draw.image(heic(clear), FIT)

    assert max(abs(a - b) for a, b in zip(shown.getpixel((9, 9)), plain.getpixel((9, 9)), strict=True)) <= 4


def test_gray_stays_gray(draw: Renderer) -> None:
    assert difference(draw.image(heic(photo().convert("L")), FIT), photo().convert("L")) < 20


def test_ten_bits_become_eight(draw: Renderer) -> None:
    assert difference(draw.image(deep_heic(photo()), FIT), photo()) < 20


def test_ten_bits_of_gray_are_unsupported(draw: Renderer) -> None:
    deep = Image.frombytes("I;16", (64, 48), bytes(64 * 48 * 2))

    with pytest.raises(UnsupportedImage, match="8 bits"):
        draw(heic(deep), FIT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_turns_and_mirrors_of_the_file_are_applied_once(draw: Renderer, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = turned(photo(), orientation)

    result = draw(heic(photo(), exif=exif.tobytes()), Orient(), Fit(Px(120), Px(120)), format="png")

    assert (result.source_size.orientation, result.source_size.width, result.source_size.height) == (1, *expected.size)
    assert difference(opened(result.body), expected) < 20


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image after an EXIF orientation is applied."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image if orientation == 1 else image.transpose(turns[orientation])


def test_a_window_is_at_its_place(draw: Renderer) -> None:
    image = photo()

    shown = draw.image(heic(image), Orient(), Crop(Px(100), Px(80)))

    assert difference(shown, image.crop((100, 60, 200, 140))) < 20


def display_p3() -> bytes:
    black = VipsImage.black(1, 1, bands=3).copy(interpretation="srgb")
    return bytes(black.icc_transform("p3").get("icc-profile-data"))


def test_a_wide_gamut_is_converted_or_kept(draw: Renderer) -> None:
    body = heic(Image.new("RGB", (64, 64), (200, 30, 30)), icc_profile=display_p3())

    converted = draw.image(body, FIT)
    kept = draw.image(body, FIT, profile="keep")

    assert converted.getpixel((9, 9))[0] > 210
    assert "icc_profile" not in converted.info
    assert max(abs(a - b) for a, b in zip(kept.getpixel((9, 9)), (200, 30, 30), strict=True)) <= 4
    assert kept.info["icc_profile"] == display_p3()


def test_the_primary_of_several_images_is_shown_by_default(draw: Renderer) -> None:
    several = heic(*(Image.new("RGB", (64, 64 + side), (side, side, side)) for side in (0, 100, 200)), primary=1)

    assert draw.image(several).getpixel((9, 9))[0] == pytest.approx(100, abs=4)
    assert draw.image(several, frames="first").size == (64, 164)
    assert draw.image(several, frames=3).size == (64, 264)
    assert draw(several, terminal=Terminal("info")).body.count(b'"width": 64') == 2


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(source_side=299), "source side"),
        (Limits(source_pixels=50_000), "source pixels"),
        (Limits(source_bytes=2000), "source bytes"),
    ],
)
def test_limits_are_checked_before_decoding(
    draw: Renderer, monkeypatch: pytest.MonkeyPatch, limits: Limits, limit: str
) -> None:
    monkeypatch.setattr(heif, "decoded", lambda *_: pytest.fail("it was decoded"))

    with pytest.raises(ImageOverLimit) as caught:
        draw(heic(photo()), FIT, limits=limits)
    assert caught.value.facts["limit"] == limit


def test_no_more_is_decoded_than_the_header_declares(draw: Renderer) -> None:
    """A header of 64 × 64 with a stream of 3,000 × 2,000: libheif limits the stream to it."""
    large = heic(Image.new("RGB", (3000, 2000)))
    lying = large.replace(ispe(3000, 2000), ispe(64, 64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert lying != large

    with pytest.raises(ImageOverLimit):
        draw(lying, FIT)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 168 * 1024


def ispe(width: int, height: int) -> bytes:
    return b"ispe" + struct.pack(">III", 0, width, height)


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_truncated_heic_is_broken(draw: Renderer, tenth: int) -> None:
    body = heic(photo())

    with pytest.raises(BrokenImage):
        draw(body[: len(body) * tenth // 10], FIT)


def test_a_heic_of_a_header_alone_is_broken(draw: Renderer) -> None:
    with pytest.raises(BrokenImage):
        draw(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(200), FIT)


def test_a_decoder_that_runs_out_of_memory_is_a_refusal(draw: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> heif.Pixels:
        raise MemoryError

    monkeypatch.setattr(heif, "decoded", exhausted)
    with pytest.raises(ImageOverLimit, match="memory"):
        draw(heic(photo(64)), FIT)


def test_an_avif_with_the_brand_of_heic_is_found_by_its_codec(draw: Renderer) -> None:
    avif = saved(photo(), "AVIF", speed=10)

    assert draw(avif.replace(b"avif", b"mif1"), FIT).source_format == "avif"
    assert draw(heic(photo()).replace(b"heic", b"avif"), FIT).source_format == "heic"


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_a_heic_is_unsupported_and_the_error_names_the_extra(draw: Renderer) -> None:
    for body in (heic(photo()), heic(photo()).replace(b"heic", b"avif")):
        with pytest.raises(UnsupportedImage) as caught:
            draw(body, FIT)
        assert caught.value.detail == "heic is read only with the extra: pip install 'imgserver[heic]'"
        assert caught.value.facts["format"] == "heic"


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_avif_is_read(draw: Renderer) -> None:
    assert draw(saved(photo(), "AVIF", speed=10), FIT).source_format == "avif"


def test_errors_of_the_decoder_are_translated(draw: Renderer) -> None:
    body = bytearray(heic(photo(96)))
    for at in range(24, len(body), len(body) // 150):
        flipped = body[:at] + bytes((body[at] ^ 0x55,)) + body[at + 1 :]
        try:
            draw(bytes(flipped), FIT, format="png")
        except ImgserverError as error:
            assert error.status in (415, 422), (at, error)


def test_the_size_is_found_in_the_head() -> None:
    assert sniff(heic(photo())[:HEAD_BYTES]) == Sniffed("heic", 300, 200, whole=True)


def test_a_heic_is_described_with_its_exif(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "A camera"
    (tmp_path / "a.heic").write_bytes(heic(photo(), exif=exif.tobytes()))

    answer = describe(str(tmp_path / "a.heic"), Limits())

    assert (answer.format, answer.width, answer.height, answer.exif["Model"]) == ("heic", 300, 200, "A camera")


def test_the_bytes_of_ten_bits_count_as_the_decoder_delivers_them(draw: Renderer) -> None:
    """As 8 bits: 2 MB here."""
    assert draw(deep_heic(photo(1000)), FIT, limits=Limits(decoded_bytes=3 * MIB)).source_size == Dims(1000, 666)
    with pytest.raises(ImageOverLimit):
        draw(deep_heic(photo(1000)), FIT, limits=Limits(decoded_bytes=MIB))


@pytest.mark.parametrize("kind", [b"vvc1", b"unci", b"j2k1"])
def test_another_codec_is_unsupported_and_not_broken(draw: Renderer, kind: bytes) -> None:
    body = heic(photo())

    with pytest.raises(UnsupportedImage):
        draw(body.replace(b"\0\0hvc1", b"\0\0" + kind), FIT)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_without_its_last_bytes_is_broken(draw: Renderer, share: float) -> None:
    body = heic(photo())

    with pytest.raises(BrokenImage):
        draw(body[: int(len(body) * share)], FIT)


def test_gray_of_limited_range_is_widened(draw: Renderer) -> None:
    ramp = Image.linear_gradient("L").resize((64, 64))
    body = heic(ramp)
    limited = body.replace(b"nclx" + body.split(b"nclx")[1][:7], b"nclx" + body.split(b"nclx")[1][:6] + b"\0")

    assert limited != body
    wide = draw.image(limited).convert("L")

    assert difference(wide, ramp.point(lambda value: min(255, max(0, round((value - 16) * 255 / 219))))) <= 6
