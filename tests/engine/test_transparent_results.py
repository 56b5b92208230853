"""Which format a photograph gets when steps make parts of it transparent, and how large it becomes."""

from fractions import Fraction

import pytest
from PIL import Image

from imgserver.plan.plan import TRANSPARENT, Canvas, Color, Fit, Mask, Px, Step, Tone, Turn
from tests.engine.conftest import Renderer, difference, opened, saved
from tests.running_server import SAMPLES

PHOTO = Image.open(SAMPLES / "dogs.jpg").convert("RGB").resize((400, 600))
ORIGINAL = saved(PHOTO, "JPEG", quality=92)

STEPS: dict[str, tuple[Step, ...]] = {
    "rounded": (Mask((60, 60, 60, 60)),),
    "ellipse": (Mask(ellipse=True),),
    "opacity": (Tone("opacity", Fraction(1, 2)),),
    "turned": (Turn(degrees=15),),
    "padded": (Fit(Px(600), Px(600), finish="pad"),),
    "framed": (Canvas((Px(20),) * 4, fill=TRANSPARENT),),
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_photograph_stays_a_jpeg_on_white_by_default(draw: Renderer, steps: tuple[Step, ...]) -> None:
    plain, result = draw(ORIGINAL), draw(ORIGINAL, *steps)

    image = opened(result.body)
    assert (result.media_type, image.mode) == ("image/jpeg", "RGB")
    assert len(result.body) < 2 * len(plain.body)
    expected = opened(draw(ORIGINAL, *steps, format="png").body).convert("RGBA")
    assert difference(image, Image.alpha_composite(Image.new("RGBA", expected.size, "white"), expected)) < 12


def test_the_background_of_a_jpeg_can_be_chosen(draw: Renderer) -> None:
    image = opened(draw(ORIGINAL, Mask(ellipse=True), background=Color(255, 0, 0)).body)

    assert all(abs(a - b) < 20 for a, b in zip(image.getpixel((2, 2)), (255, 0, 0), strict=True))


@pytest.mark.parametrize("offers", [("avif", "webp"), ("webp",), ()], ids=str)
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_the_automatic_format_has_alpha_and_no_surprising_size(
    draw: Renderer, steps: tuple[Step, ...], offers: tuple[str, ...]
) -> None:
    plain, result = draw(ORIGINAL), draw(ORIGINAL, *steps, format="auto", offers=offers)

    image = opened(result.body).convert("RGBA")
    assert result.media_type == f"image/{offers[0] if offers else 'png'}"
    assert image.getchannel("A").getextrema()[0] < 200
    # A PNG is written only for a client that accepts nothing else; in full colors it has up to twenty times the bytes.
    assert len(result.body) < (2 if offers else 7) * len(plain.body)


def test_a_png_in_place_of_a_lossy_format_looks_like_the_photograph(draw: Renderer) -> None:
    steps = STEPS["rounded"]

    shown = opened(draw(ORIGINAL, *steps, format="auto").body).convert("RGBA")
    exact = opened(draw(ORIGINAL, *steps, format="png").body).convert("RGBA")

    assert difference(shown, exact) < 6
    assert [shown.getpixel(at)[3] for at in ((0, 0), (200, 300))] == [0, 255]


@pytest.mark.parametrize(
    ("name", "options", "media_type"),
    [
        ("PNG", {}, "image/png"),
        ("WEBP", {}, "image/webp"),
        ("AVIF", {}, "image/avif"),
        ("GIF", {}, "image/gif"),
        ("TIFF", {}, "image/jpeg"),
    ],
)
def test_a_format_with_alpha_is_kept(draw: Renderer, name: str, options: dict[str, object], media_type: str) -> None:
    assert draw(saved(PHOTO, name, **options), *STEPS["rounded"]).media_type == media_type


def test_an_original_with_alpha_in_a_format_that_browsers_do_not_show_becomes_a_png(draw: Renderer) -> None:
    clear = PHOTO.convert("RGBA")
    clear.putalpha(100)

    assert draw(saved(clear, "TIFF")).media_type == "image/png"


def test_a_named_format_is_written(draw: Renderer) -> None:
    result = draw(ORIGINAL, *STEPS["rounded"], format="png")

    assert opened(result.body).mode == "RGBA"
