"""AVIF originals are shown as other decoders show them; what is whole but cannot be read is unsupported, not broken."""

import io
import struct
from pathlib import Path

import pytest
from PIL import Image

from imgserver.errors import BrokenImage, UnsupportedImage
from imgserver.plan.plan import Orient
from tests.avif_files import Item, alpha, coded, container, grid
from tests.engine.conftest import Renderer, difference, opened, saved

CASES = Path(__file__).parent.parent / "cases"
RAMP = Image.linear_gradient("L").rotate(90).resize((64, 48))
PHOTO = Image.merge(
    "RGB", (RAMP, RAMP.transpose(Image.Transpose.FLIP_LEFT_RIGHT), RAMP.rotate(180).point(lambda v: v // 2))
)
PREMULTIPLIED = (b"prem", 1, (2,)), (b"auxl", 2, (1,))
PLAIN = ((b"auxl", 2, (1,)),)


def pillow(body: bytes) -> Image.Image:
    """As libavif decodes it."""
    return opened(body)


def nclx(*, full: bool) -> bytes:
    return b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80 * full)


def closest(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of a sample."""
    assert (one.size, one.mode) == (other.size, other.mode)
    return max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("samples", ["full", "limited"])
def test_color_is_shown_in_every_range_and_subsampling(draw: Renderer, samples: str, subsampling: str) -> None:
    body = container([coded(PHOTO, range=samples, subsampling=subsampling)])

    assert difference(draw.image(body), pillow(body)) <= 3
    assert difference(draw.image(body), PHOTO) <= 12


@pytest.mark.parametrize("samples", ["full", "limited"])
@pytest.mark.parametrize("described", [True, False], ids=["described", "in the stream"])
def test_gray_is_shown_in_every_range(draw: Renderer, samples: str, described: bool) -> None:
    item = coded(RAMP, range=samples, subsampling="4:0:0")
    item = item.having(b"colr", nclx(full=samples == "full")) if described else item.having(b"colr")

    shown = draw.image(container([item])).convert("L")

    assert closest(shown, RAMP) <= 4


def test_a_range_in_the_container_counts_before_that_of_the_stream(draw: Renderer) -> None:
    item = coded(RAMP, range="limited", subsampling="4:0:0").having(b"colr", nclx(full=True))

    shown = draw.image(container([item])).convert("L")

    assert closest(shown, RAMP.point(lambda value: round(16 + value * 219 / 255))) <= 4


def test_limited_gray_of_a_known_file_is_widened(draw: Renderer) -> None:
    shown = draw.image((CASES / "mono_limited.avif").read_bytes())

    assert closest(shown.convert("L"), Image.open(CASES / "mono_limited.avif").convert("L")) <= 2


@pytest.mark.parametrize("samples", ["full", "limited"])
def test_alpha_is_shown_in_every_range(draw: Renderer, samples: str) -> None:
    body = container([coded(PHOTO), alpha(RAMP, range=samples, subsampling="4:0:0").having(b"colr")], *PLAIN)

    shown = draw.image(body)

    assert closest(shown.getchannel("A"), RAMP) <= 4


@pytest.mark.parametrize("samples", ["full", "limited"])
@pytest.mark.parametrize("level", [255, 128, 60])
def test_premultiplied_colors_are_shown_plain(draw: Renderer, level: int, samples: str) -> None:
    color = (200, 60, 120)
    stored = tuple(value * level // 255 for value in color)
    opacity = alpha(Image.new("L", (32, 32), level), range=samples, subsampling="4:0:0").having(b"colr")
    items = [coded(Image.new("RGB", (32, 32), stored), range=samples), opacity]

    shown = draw.image(container(items, *PREMULTIPLIED)).convert("RGBA").getpixel((9, 9))
    plain = draw.image(container(items, *PLAIN)).convert("RGBA").getpixel((9, 9))

    tolerance = 2 + 3 * 255 // level
    assert max(abs(a - b) for a, b in zip(shown, (*color, level), strict=True)) <= tolerance
    assert max(abs(a - b) for a, b in zip(plain, (*stored, level), strict=True)) <= 4


def test_premultiplied_colors_of_a_known_file_are_shown_plain(draw: Renderer) -> None:
    shown = draw.image((CASES / "f5_premultiplied.avif").read_bytes()).getpixel((10, 24))

    assert max(abs(a - b) for a, b in zip(shown, (200, 60, 60, 128), strict=True)) <= 1


RED, GREEN, BLUE = (
    coded(Image.new("RGB", size, color)) for size, color in (((80, 60), "red"), ((50, 70), "green"), ((30, 30), "blue"))
)


def test_pages_are_numbered_in_the_order_of_the_file(draw: Renderer) -> None:
    for body in ((CASES / "f22_primary_second.avif").read_bytes(), container([RED, GREEN, BLUE], primary=2)):
        sizes = [draw.image(body, frames=page).size for page in (1, 2, 3)]

        assert sizes == [(80, 60), (50, 70), (30, 30)]
        assert draw.image(body).size == draw.image(body, frames="first").size == (50, 70)
        assert draw.image(body, frames=1).getpixel((5, 5))[0] > 240


def test_the_corrections_are_those_of_the_page(draw: Renderer) -> None:
    gray = coded(RAMP, range="limited", subsampling="4:0:0")

    body = container([RED, gray, RED], primary=3)

    assert closest(draw.image(body, frames=2).convert("L"), RAMP) <= 4
    assert draw.image(body, frames=1).getpixel((5, 5))[0] > 240


CORNERS = [Image.new("RGB", (64, 64), color) for color in ("red", "lime", "blue", "white")]


def mosaic(size: tuple[int, int]) -> Image.Image:
    whole = Image.new("RGB", (128, 128))
    for number, tile in enumerate(CORNERS):
        whole.paste(tile, (number % 2 * 64, number // 2 * 64))
    return whole.crop((0, 0, *size))


@pytest.mark.parametrize("size", [(128, 128), (120, 90)])
def test_the_tiles_of_a_grid_are_joined(draw: Renderer, size: tuple[int, int]) -> None:
    assert difference(draw.image(grid([coded(tile) for tile in CORNERS], 2, 2, size)), mosaic(size)) <= 6


@pytest.mark.parametrize("angle", range(4))
def test_turns_of_the_container_are_applied(draw: Renderer, angle: int) -> None:
    body = container([coded(PHOTO).having(b"irot", bytes((angle,)))])

    assert difference(draw.image(body, Orient()), PHOTO.rotate(90 * angle, expand=True)) <= 12


@pytest.mark.parametrize(("axis", "turn"), [(0, Image.Transpose.FLIP_TOP_BOTTOM), (1, Image.Transpose.FLIP_LEFT_RIGHT)])
def test_mirrors_of_the_container_are_applied(draw: Renderer, axis: int, turn: Image.Transpose) -> None:
    body = container([coded(PHOTO).having(b"imir", bytes((axis,)))])

    assert difference(draw.image(body, Orient()), PHOTO.transpose(turn)) <= 12


def test_the_clean_aperture_is_cut_out(draw: Renderer) -> None:
    # 32 × 24 pixels, whose center is 4 to the right of and 2 above that of the image.
    body = container([coded(PHOTO).having(b"clap", struct.pack(">IIIIiIiI", 32, 1, 24, 1, 4, 1, -2, 1))])

    shown = draw.image(body)

    assert shown.size == (32, 24)
    assert difference(shown, PHOTO.crop((20, 10, 52, 34))) <= 12


@pytest.mark.parametrize("name", ["animated_no_primary.avif", None])
def test_a_sequence_without_a_still_picture_is_unsupported(draw: Renderer, name: str | None) -> None:
    sequence = saved(PHOTO, "AVIF", save_all=True, append_images=[PHOTO.rotate(180)], duration=50)
    body = (CASES / name).read_bytes() if name else sequence.replace(b"meta", b"free")

    with pytest.raises(UnsupportedImage, match="sequence"):
        draw(body)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (RED.having(b"lsel", b"\0\0"), "layer"),
        (Item(RED.content, RED.properties, b"unci"), "unci"),
        (Item(RED.content, RED.properties, b"vvc1"), "vvc1"),
        (Item(RED.content, RED.properties, b"j2k1"), "j2k1"),
        (Item(RED.content, RED.properties, b"\r\n<\xff"), "an unknown codec"),
    ],
)
def test_a_whole_file_of_an_unreadable_kind_is_unsupported(draw: Renderer, item: Item, words: str) -> None:
    with pytest.raises(UnsupportedImage, match=words):
        draw(container([item]))


def test_the_sizes_of_layers_change_nothing(draw: Renderer) -> None:
    assert draw.image(container([RED.having(b"a1lx", bytes(7))])).size == (80, 60)


WHOLE = [
    pytest.param(saved(PHOTO, "AVIF"), id="color"),
    pytest.param(container([coded(PHOTO), alpha(RAMP)], *PLAIN), id="alpha"),
    pytest.param(grid([coded(tile) for tile in CORNERS], 2, 2, (128, 128)), id="grid"),
    pytest.param(saved(PHOTO, "AVIF", save_all=True, append_images=[PHOTO.rotate(180)]), id="sequence"),
]


@pytest.mark.parametrize("body", WHOLE[:3])
@pytest.mark.parametrize("missing", [1, 5, 30])
def test_a_file_without_its_last_bytes_is_broken(draw: Renderer, body: bytes, missing: int) -> None:
    with pytest.raises(BrokenImage):
        draw(body[:-missing])


@pytest.mark.parametrize("body", WHOLE)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7])
def test_a_truncated_file_is_broken(draw: Renderer, body: bytes, share: float) -> None:
    with pytest.raises(BrokenImage):
        draw(body[: max(20, int(len(body) * share))])


def test_pillow_reads_the_files_of_this_test() -> None:
    for body in (container([coded(PHOTO), alpha(RAMP)], *PREMULTIPLIED), container([RED, GREEN], primary=2)):
        assert Image.open(io.BytesIO(body)).format == "AVIF"
