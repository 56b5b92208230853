"""Unusual originals are read correctly, every format is written correctly, animations stay animated."""

import base64
import json
from fractions import Fraction
from io import BytesIO

import pytest
from PIL import Image, ImageCms

from imgserver.engine.header import examine
from imgserver.engine.job import Job, Limits, Quality
from imgserver.engine.load import reduction
from imgserver.engine.render import render
from imgserver.engine.vips import Image as VipsImage
from imgserver.errors import BadRequest, FramesLost, NotInThisBuild, OutputOverLimit
from imgserver.plan.plan import Canvas, Color, Crop, Dims, Fit, Mask, Orient, Output, Plan, Px, Terminal, Tone, Turn
from tests.engine.conftest import SAMPLES, Renderer, difference, opened, saved

FIT = Fit(Px(120))
RED = (220, 20, 20)


def photo(width: int = 400) -> Image.Image:
    with Image.open(SAMPLES / "coffee.png") as image:
        return image.convert("RGB").resize((width, width * 2 // 3))


def movie(frames: int = 5, size: tuple[int, int] = (90, 60)) -> list[Image.Image]:
    """Frames of different gray levels."""
    return [Image.new("RGB", size, (40 * number, 40 * number, 40 * number)) for number in range(frames)]


def animated(name: str, frames: int = 5, **options: object) -> bytes:
    first, *rest = movie(frames)
    return saved(first, name, save_all=True, append_images=rest, duration=[80] * frames, loop=3, **options)


@pytest.mark.parametrize(
    ("name", "media_type", "signature"),
    [
        ("jpg", "image/jpeg", "JPEG"),
        ("png", "image/png", "PNG"),
        ("webp", "image/webp", "WEBP"),
        ("avif", "image/avif", "AVIF"),
        ("gif", "image/gif", "GIF"),
        ("tiff", "image/tiff", "TIFF"),
    ],
)
def test_every_format_shows_the_image(draw: Renderer, name: str, media_type: str, signature: str) -> None:
    result = draw("creek.jpg", Orient(), FIT, format=name)

    image = opened(result.body)
    assert (result.media_type, image.format, image.size) == (media_type, signature, (120, 80))
    with Image.open(SAMPLES / "creek.jpg") as original:
        assert difference(image, original) < 16


@pytest.mark.parametrize("source", ["sunset.jpg", "astronaut.png"])
def test_by_default_the_format_of_the_original_is_kept(draw: Renderer, source: str) -> None:
    result = draw(source, FIT)

    assert result.source_format == source[-3:]
    assert result.media_type == {"jpg": "image/jpeg", "png": "image/png"}[source[-3:]]


def test_the_result_describes_its_original(draw: Renderer) -> None:
    result = draw("coffee.png", FIT)

    assert result.source_size == Dims(600, 400)
    assert result.source_bytes == (SAMPLES / "coffee.png").stat().st_size
    assert len(result.etag) == 32
    assert result.etag == draw("coffee.png", FIT).etag
    assert result.etag != draw("coffee.png", Fit(Px(119))).etag
    assert result.timings.cpu_seconds > 0


def test_cmyk_becomes_srgb(draw: Renderer) -> None:
    cmyk = saved(photo().convert("CMYK"), "JPEG", quality=95)

    image = draw.image(cmyk, FIT)

    assert image.mode == "RGB"
    assert difference(image, photo()) < 70


def test_sixteen_bits_become_eight(draw: Renderer) -> None:
    deep = VipsImage.new_from_file(str(SAMPLES / "coffee.png")).colourspace("rgb16").pngsave_buffer()

    image = draw.image(bytes(deep), FIT)

    assert image.mode == "RGB"
    assert difference(image, photo()) < 16


def test_gray_palette_bilevel_and_interlaced_images_are_read_correctly(draw: Renderer) -> None:
    gray = photo().convert("L")
    originals = {
        "gray png": saved(gray, "PNG"),
        "gray jpg": saved(gray, "JPEG"),
        "gray alpha": saved(gray.convert("LA"), "PNG"),
        "bilevel": saved(gray.convert("1"), "PNG"),
        "bilevel tiff": saved(gray.convert("1"), "TIFF", compression="group4"),
        "progressive": saved(gray, "JPEG", progressive=True),
    }
    for name, original in originals.items():
        assert difference(draw.image(original, FIT), gray) < 22, name
    for name, options in {"palette": {}, "palette tiff": {"compression": "tiff_lzw"}}.items():
        original = saved(photo().quantize(64), name.split()[-1].replace("palette", "PNG").upper(), **options)
        assert difference(draw.image(original, FIT), photo()) < 22, name


def test_colors_are_drawn_on_gray_images(draw: Renderer) -> None:
    result = draw.image(saved(Image.new("L", (30, 20), 99), "PNG"), Canvas((Px(2),) * 4, fill=Color(*RED)))

    assert (result.getpixel((0, 0)), result.getpixel((9, 9))) == (RED, (99, 99, 99))


def p3_image() -> bytes:
    """An image of (200, 30, 30) in Display P3, which is a stronger red in sRGB."""
    profile = bytes(
        VipsImage.black(1, 1, bands=3).copy(interpretation="srgb").icc_transform("p3").get("icc-profile-data")
    )
    return saved(Image.new("RGB", (64, 64), (200, 30, 30)), "JPEG", quality=100, subsampling=0, icc_profile=profile)


def test_a_wide_gamut_profile_is_converted_and_dropped(draw: Renderer) -> None:
    image = draw.image(p3_image(), Fit(Px(32)), format="png")

    red, green, blue = image.getpixel((9, 9))
    assert red > 210
    assert max(green, blue) < 30
    assert "icc_profile" not in image.info


def test_a_profile_is_kept_with_unchanged_values_on_request(draw: Renderer) -> None:
    image = draw.image(p3_image(), Fit(Px(32)), format="png", profile="keep")

    assert max(abs(a - b) for a, b in zip(image.getpixel((9, 9)), (200, 30, 30), strict=True)) <= 3
    assert ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"])).profile.profile_description


def test_an_unusable_profile_is_ignored(draw: Renderer) -> None:
    broken = saved(photo(), "JPEG", icc_profile=b"no profile at all" * 20)

    assert difference(draw.image(broken, FIT), photo()) < 16


@pytest.mark.parametrize("source", ["GIF", "WEBP"])
@pytest.mark.parametrize("target", ["gif", "webp"])
def test_an_animation_stays_animated(draw: Renderer, source: str, target: str) -> None:
    result = draw(animated(source), Fit(Px(41)), format=target)

    image = Image.open(BytesIO(result.body))
    assert (result.size, image.n_frames, image.size) == (Dims(41, 27, 1, 5), 5, (41, 27))
    assert image.info["loop"] in (2, 3, 4)  # GIF counts repetitions, WebP plays
    for number in range(5):
        image.seek(number)
        assert abs(image.convert("L").getpixel((20, 13)) - 40 * number) < 8
        assert image.info["duration"] == 80


def test_the_steps_are_applied_to_each_frame(draw: Renderer) -> None:
    steps = (
        Crop(Px(50), Px(40)),
        Turn(6),
        Fit(Px(33), Px(33), finish="pad"),
        Tone("negate", Fraction(1)),
        Mask((9,) * 4),
    )

    result = draw(animated("WEBP"), *steps, Canvas((Px(3),) * 4), format="webp", lossless=True)

    image = Image.open(BytesIO(result.body))
    assert (image.size, image.n_frames) == ((39, 39), 5)
    for number in range(5):
        image.seek(number)
        shown = image.convert("RGBA")
        assert shown.getpixel((0, 0)) == (0, 0, 0, 255)
        assert abs(shown.getpixel((19, 19))[0] - (255 - 40 * number)) < 4


@pytest.mark.parametrize("name", ["PNG", "AVIF"])
def test_of_an_animation_whose_frames_cannot_be_read_all_the_first_is_shown(draw: Renderer, name: str) -> None:
    body = saved(movie()[0], name, save_all=True, append_images=movie()[1:], duration=80)

    for output in ({}, {"format": "webp"}, {"frames": "first", "format": "gif"}):
        image = opened(draw(body, **output).body)
        assert (getattr(image, "n_frames", 1), image.size) == (1, (90, 60))
        assert image.convert("L").getextrema()[1] < 8
    with pytest.raises(FramesLost, match="5 frames: only the first"):
        draw(body, frames="all", format="webp")
    facts = json.loads(draw(body, terminal=Terminal("info")).body)
    assert (facts["original"]["frames"], facts["original"]["animated"], facts["output"]["frames"]) == (5, True, 1)


@pytest.mark.parametrize("output", [{"format": "jpg"}, {"format": "avif"}, {"format": "gif", "frames": "first"}])
def test_a_still_is_the_first_frame(draw: Renderer, output: dict[str, str]) -> None:
    result = draw(animated("GIF"), **output)

    image = Image.open(BytesIO(result.body))
    assert (result.size.frames, getattr(image, "n_frames", 1)) == (1, 1)
    assert image.convert("L").getpixel((20, 13)) < 8


def test_a_page_is_chosen_by_its_number(draw: Renderer) -> None:
    first, *rest = [Image.new("RGB", (30 + number, 20), (40 * number,) * 3) for number in range(3)]
    sheets = saved(first, "TIFF", save_all=True, append_images=rest)

    assert draw.image(sheets, frames=3).size == (32, 20)
    assert draw.image(sheets).size == (30, 20)
    assert draw.image(animated("GIF"), frames=4).convert("L").getpixel((5, 5)) == 120
    with pytest.raises(BadRequest, match="page 4 of 3"):
        draw(sheets, frames=4)


def test_alpha_is_kept_if_the_format_has_it(draw: Renderer) -> None:
    image = photo().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    original = saved(image, "PNG")

    for name in ("png", "webp", "avif", "gif", "tiff"):
        body = draw(original, FIT, format=name).body
        assert "A" in opened(body).convert("RGBA" if name == "gif" else None).mode, name
    assert opened(draw(original, FIT, format="jpg").body).mode == "RGB"


def test_the_automatic_format_is_the_first_offer_that_can_hold_the_image(draw: Renderer) -> None:
    def chosen(source: str | bytes, *offers: str) -> str:
        return draw(source, FIT, format="auto", offers=offers).media_type

    assert chosen("coffee.png", "avif", "webp") == "image/avif"
    assert chosen("coffee.png", "webp") == "image/webp"
    assert chosen("coffee.png") == "image/png"
    assert chosen("sunset.jpg") == "image/jpeg"
    assert chosen(animated("GIF"), "avif", "webp") == "image/webp"


def test_a_format_that_cannot_be_written_is_not_in_this_build(draw: Renderer) -> None:
    with pytest.raises(NotInThisBuild, match="jxl"):
        draw("cat.png", format="jxl")


def test_an_avif_over_its_pixel_limit_becomes_another_offer_or_an_error(draw: Renderer) -> None:
    large = saved(Image.new("RGB", (4200, 3000)), "JPEG")

    assert draw(large, format="auto", offers=("avif",)).media_type == "image/jpeg"
    with pytest.raises(OutputOverLimit, match="avif"):
        draw(large, format="avif")


def test_quality_reaches_the_encoder(draw: Renderer) -> None:
    for name in ("jpg", "webp", "avif"):
        sizes = [
            len(render(Job(str(SAMPLES / "creek.jpg"), Plan((FIT,), Output(name, quality=number)))).body)
            for number in (30, "eco", "best")
        ]
        assert sizes == sorted(sizes), name
        assert sizes[0] < sizes[2] / 2, name


@pytest.mark.parametrize(
    ("name", "width", "cheap", "costly"),
    [
        ("jpg", 100, Quality(jpeg_optimize=False), Quality(jpeg_optimize=True)),
        ("webp", 300, Quality(webp_effort=0), Quality(webp_effort=6)),
        ("avif", 300, Quality(avif_effort=0), Quality(avif_effort=4)),
        ("avif", 300, Quality(avif_effort=4, avif_effort_max_pixels=10_000), Quality(avif_effort=4)),
    ],
)
def test_effort_reaches_the_encoder(draw: Renderer, name: str, width: int, cheap: Quality, costly: Quality) -> None:
    sizes = [len(draw("creek.jpg", Fit(Px(width)), quality=quality, format=name).body) for quality in (cheap, costly)]

    assert sizes[1] < sizes[0] or (name == "avif" and sizes[1] != sizes[0])  # AVIF spends it on quality as well


@pytest.mark.parametrize(("headroom", "share"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_the_decoder_reduces_no_further_than_the_headroom_allows(headroom: int, share: int) -> None:
    header = examine(str(SAMPLES / "sunset.jpg"), Limits())

    assert reduction(header, Fraction(1, 8), headroom) == Fraction(1, share)


def test_large_jpegs_are_progressive_and_small_ones_are_not(draw: Renderer) -> None:
    assert "progressive" in opened(draw("creek.jpg", Fit(Px(600))).body).info
    assert "progressive" not in opened(draw("creek.jpg", Fit(Px(100))).body).info
    assert "progressive" in opened(draw("creek.jpg", Fit(Px(100)), progressive=True).body).info


def test_info_describes_original_and_result(draw: Renderer) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    original = saved(photo(), "JPEG", exif=exif)

    result = draw(original, Orient(), Fit(Px(100)), terminal=Terminal("info"), format="webp")

    answer = json.loads(result.body)
    assert result.media_type == "application/json"
    assert answer["original"] | {"bytes": 0} == {
        "format": "jpg",
        "media_type": "image/jpeg",
        "width": 400,
        "height": 266,
        "orientation": 6,
        "frames": 1,
        "animated": False,
        "alpha": False,
        "profile": False,
        "bytes": 0,
        "version": None,
    }
    expected = {"format": "webp", "media_type": "image/webp", "width": 100, "height": 150, "frames": 1, "exact": True}
    assert answer["output"] == expected


def test_lqip_is_a_small_data_uri_of_the_image(draw: Renderer) -> None:
    result = draw("sunset.jpg", Orient(), terminal=Terminal("lqip"))

    head, data = result.body.split(b",", 1)
    assert (result.media_type, head) == ("text/plain; charset=utf-8", b"data:image/webp;base64")
    with Image.open(SAMPLES / "sunset.jpg") as original:
        assert difference(opened(base64.b64decode(data)), original, side=6) < 30
    assert len(result.body) < 2000


def test_hashes_decode_to_the_colors_of_the_image(draw: Renderer) -> None:
    from blurhash_rs._lib import decode_rgb
    from fast_thumbhash import thumb_hash_to_average_rgba

    blur = draw("sunset.jpg", terminal=Terminal("blurhash")).body.decode()
    thumb = base64.b64decode(draw("sunset.jpg", terminal=Terminal("thumbhash")).body)

    shown = Image.frombytes("RGB", (32, 24), bytes(decode_rgb(blur, 32, 24, 1.0)))
    with Image.open(SAMPLES / "sunset.jpg") as original:
        assert difference(shown, original, side=3) < 60
        mean = original.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    average = tuple(thumb_hash_to_average_rgba(thumb))
    assert max(abs(a * 255 - b) for a, b in zip(average, mean, strict=False)) < 40


def test_a_palette_names_the_colors_with_their_shares(draw: Renderer) -> None:
    image = Image.new("RGB", (100, 100), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 100, 25))

    answer = json.loads(draw(saved(image, "PNG"), terminal=Terminal("palette", 2)).body)

    assert [entry["color"] for entry in answer] == ["#ff0000", "#0000ff"]
    assert abs(answer[0]["share"] - 0.75) < 0.05


def test_a_palette_of_one_color_has_one_entry(draw: Renderer) -> None:
    answer = json.loads(draw(saved(Image.new("RGB", (9, 9), (1, 2, 3)), "PNG"), terminal=Terminal("palette", 5)).body)

    assert answer == [{"color": "#010203", "share": 1.0}]
