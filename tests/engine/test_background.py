"""A background color is laid once, whatever is padded, turned, rounded or transparent."""

import pytest
from PIL import Image, ImageDraw

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.engine.job import Job
from imgserver.engine.render import render
from tests.engine.conftest import Renderer, opened, saved
from tests.running_server import CASES

DIALECT = NativeDialect(NativeSettings(), {"photos"}, "photos")
Pixel = tuple[int, int, int, int]
HALF_RED = (255, 0, 0, 128)
BLUE = (0, 0, 255, 255)
# Blue of half transparency over red of half transparency (source-over, straight alpha): 128 + 128 × 127 / 255.
HALF_BLUE_ON_HALF_RED = (85, 0, 170, 192)


def result(draw: Renderer, options: str, data: bytes) -> Image.Image:
    path = draw.folder / "original"
    path.write_bytes(data)
    plan = DIALECT.parse(f"/img/{options}/p.png").plan
    return opened(render(Job(str(path), plan)).body)


def plain(color: Pixel = BLUE, mode: str = "RGBA", name: str = "PNG") -> bytes:
    return saved(Image.new("RGBA", (40, 20), color).convert(mode), name)


def is_near(found: object, expected: Pixel, tolerance: int = 2) -> bool:
    assert isinstance(found, tuple)
    return all(abs(one - other) <= tolerance for one, other in zip(found, expected, strict=True))


def test_the_case_of_a_padded_image(draw: Renderer) -> None:
    image = result(draw, "c_pad,w_200,h_200,b_ff000080,f_png", (CASES / "f23_plain.png").read_bytes())
    alphas = {image.convert("RGBA").getpixel((x, y))[3] for x, y in ((0, 0), (199, 199), (100, 1), (1, 100))}  # type: ignore[index]

    assert alphas <= {128, 255}
    assert 128 in alphas


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "I;16"])
@pytest.mark.parametrize(
    ("options", "at"),
    [
        ("c_pad,w_60,h_60,b_ff000080,f_png", (1, 1)),
        ("c_lpad,w_60,h_60,b_ff000080,f_png", (1, 1)),
        ("c_pad,ar_1:1,b_ff000080,f_webp", (1, 1)),
        ("w_40,a_45,b_ff000080,f_png", (1, 1)),
        ("w_40,r_max,b_ff000080,f_png", (0, 0)),
        ("c_pad,w_60,h_60,a_30,r_9,e_blur:1,b_ff000080,f_png", (1, 1)),
    ],
)
def test_a_translucent_background_is_laid_once(draw: Renderer, options: str, at: tuple[int, int], mode: str) -> None:
    original = Image.new("L", (40, 20), 200).convert("RGB")
    data = saved(Image.new("I;16", (40, 20), 51_400) if mode == "I;16" else original.convert(mode), "PNG")

    image = result(draw, options, data).convert("RGBA")

    assert is_near(image.getpixel(at), HALF_RED)
    assert is_near(image.getpixel((image.width // 2, image.height // 2)), (200, 200, 200, 255), 12)


@pytest.mark.parametrize("options", ["b_ff000080,f_png", "c_pad,w_60,h_60,b_ff000080,f_png", "w_40,b_ff000080"])
def test_a_translucent_image_is_laid_on_it_once(draw: Renderer, options: str) -> None:
    image = result(draw, options, plain((0, 0, 255, 128)))

    assert is_near(image.convert("RGBA").getpixel((image.width // 2, image.height // 2)), HALF_BLUE_ON_HALF_RED)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_jpeg_has_the_translucent_background_over_white(draw: Renderer, mode: str) -> None:
    image = result(draw, "c_pad,w_60,h_60,b_ff000080,f_jpg", plain(mode=mode))

    assert is_near((*image.convert("RGB").getpixel((3, 3)), 255), (255, 127, 127, 255), 6)  # type: ignore[misc]


@pytest.mark.parametrize("options", ["b_ff0000,f_png", "b_ff0000,f_jpg", "c_pad,w_40,h_20,b_ff0000,f_png"])
def test_a_gray_image_with_alpha_on_a_color_shows_the_color(draw: Renderer, options: str) -> None:
    image = Image.new("LA", (40, 20), (0, 255))
    ImageDraw.Draw(image).rectangle((0, 0, 20, 20), fill=(0, 0))

    found = result(draw, options, saved(image, "PNG")).convert("RGBA")

    assert is_near(found.getpixel((5, 10)), (255, 0, 0, 255), 4)
    assert is_near(found.getpixel((35, 10)), (0, 0, 0, 255), 4)


def test_an_opaque_background_leaves_no_transparency(draw: Renderer) -> None:
    image = result(draw, "c_pad,w_60,h_60,a_20,r_5,b_ff0000,f_png", plain((0, 0, 255, 128)))

    assert not image.has_transparency_data
    assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
