"""A GIF is shown as browsers show it; only one that lacks pixels is refused."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from PIL import Image, ImageSequence

from imgserver.engine.describe import describe
from imgserver.engine.job import Limits
from imgserver.errors import BrokenImage
from imgserver.plan.plan import Crop, Px
from tests.engine.conftest import Renderer, opened, saved
from tests.gif_files import CLEAR, KEEP, TO_BACKGROUND, TO_PREVIOUS, Frame, Movie, Pixel, blocks, codes, random_movie

CASES = Path(__file__).parent.parent.parent / "cases"
PALETTE = [(10, 20, 30), (200, 0, 0), (0, 200, 0), (0, 0, 200)]
WHITE = (255, 255, 255, 255)


def pixels(image: Image.Image) -> list[Pixel]:
    """With one value for all transparent pixels."""
    data = image.convert("RGBA").tobytes()
    return [(r, g, b, a) if a else CLEAR for r, g, b, a in zip(*[iter(data)] * 4, strict=True)]


def flat(box: tuple[int, int, int, int], index: int, **options: object) -> Frame:
    return Frame(box, bytes((index,)) * (box[2] * box[3]), PALETTE, **options)  # type: ignore[arg-type]


def movie(*frames: Frame, size: tuple[int, int] = (8, 6)) -> Movie:
    return Movie(size, frames, 1, PALETTE)


def shown(draw: Renderer, body: bytes, frames: int) -> list[list[Pixel]]:
    """The frames of a lossless WebP, without those that equal the one before: its encoder joins them."""
    if frames == 1:
        return [pixels(draw.image(body))]
    result = bytearray(draw(body, format="webp", lossless=True).body)
    # libwebp sets this flag only if a frame stores alpha. Without it Pillow shows open parts of the canvas in black.
    result[20] |= 0x10 if result[12:16] == b"VP8X" else 0
    return [pixels(frame) for frame in ImageSequence.Iterator(opened(bytes(result)))]


def distinct(frames: list[list[Pixel]]) -> list[list[Pixel]]:
    return [frame for frame, _ in groupby(frames)]


@pytest.mark.parametrize("seed", range(60))
def test_every_feature_is_shown_as_browsers_show_it(draw: Renderer, seed: int) -> None:
    made = random_movie(seed)

    assert shown(draw, made.file(), len(made.frames)) == distinct(made.shown())


@pytest.mark.parametrize("seed", range(60, 80))
def test_one_frame_of_an_animation_is_shown_as_in_it(draw: Renderer, seed: int) -> None:
    made = random_movie(seed)

    for page, expected in enumerate(made.shown(), start=1):
        assert pixels(draw.image(made.file(), frames=page)) == expected


COVERED = flat((0, 0, 8, 6), 1)
SMALL = flat((2, 2, 3, 2), 2)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param((SMALL,), id="a still with an offset"),
        pytest.param((SMALL, COVERED), id="a small first frame"),
        pytest.param((replace(COVERED, disposal=TO_BACKGROUND), SMALL), id="an opaque frame that is cleared"),
        pytest.param(
            (COVERED, replace(SMALL, disposal=TO_BACKGROUND), flat((0, 0, 1, 1), 3)), id="a small box that is cleared"
        ),
        pytest.param((replace(COVERED, disposal=TO_PREVIOUS), SMALL), id="a first frame that is taken back"),
        pytest.param(
            (replace(SMALL, disposal=TO_BACKGROUND), replace(COVERED, disposal=TO_PREVIOUS), flat((0, 0, 1, 1), 3)),
            id="a cleared box below a frame that is taken back",
        ),
        pytest.param((COVERED, replace(SMALL, disposal=KEEP, transparent=3)), id="a transparent color"),
    ],
)
def test_pixels_that_nothing_was_drawn_on_are_transparent(draw: Renderer, frames: Sequence[Frame]) -> None:
    made = movie(*frames)

    assert shown(draw, made.file(), len(frames)) == made.shown()


def test_a_cleared_frame_of_256_colors_is_transparent(draw: Renderer) -> None:
    palette = [(value, value, 255 - value) for value in range(256)]
    used = bytes(value for value in range(48) if value != 7)
    first = Frame((0, 0, 8, 6), used + b"\0", palette, disposal=TO_BACKGROUND, local=True)
    made = movie(first, SMALL)

    assert shown(draw, made.file(), 2) == made.shown()


def test_an_opaque_animation_has_no_alpha_channel(draw: Renderer) -> None:
    made = movie(replace(COVERED, disposal=TO_BACKGROUND), flat((0, 0, 8, 6), 2)).file()

    assert draw.image(made, frames="first").mode == "RGB"
    assert draw.image(made, frames=2).mode == "RGB"
    assert draw(made, format="webp", lossless=True).body[20] & 0x10 == 0


@pytest.mark.parametrize("name", ["f2_partial.gif", "small_first_frame_still.gif"])
def test_an_uncovered_canvas_is_transparent_and_white_in_a_jpeg(draw: Renderer, name: str) -> None:
    body = (CASES / name).read_bytes()

    assert draw.image(body).getpixel((39, 10)) == CLEAR
    assert draw.image(body, format="jpg").convert("RGBA").getpixel((39, 10)) == WHITE
    assert draw.image(body, format="gif").convert("RGBA").getpixel((39, 10))[3] == 0
    assert opened(draw(body, Crop(Px(4), Px(4)), format="webp").body).mode in ("RGB", "RGBA")


def test_a_description_lists_only_the_frames_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(movie(replace(SMALL, delay=5), replace(SMALL, delay=7)).file())

    described = describe(str(tmp_path / "a.gif"), Limits())

    assert (described.frames, described.delays, described.alpha) == (2, (50, 70), True)


def test_the_number_of_repetitions_is_kept(draw: Renderer) -> None:
    first, *rest = (Image.new("RGB", (9, 9), color) for color in ("red", "green", "blue"))

    for loop in (0, 4):
        body = saved(first, "GIF", save_all=True, append_images=rest, loop=loop, duration=50)
        assert opened(draw(body, format="gif").body).info["loop"] == loop


NOISE = Frame((0, 0, 8, 6), bytes(index * index % 4 for index in range(48)), PALETTE)


@pytest.mark.parametrize("count", range(1, 24))
def test_the_last_pixel_needs_no_end_code(draw: Renderer, count: int) -> None:
    made = Movie((count, 1), [Frame((0, 0, count, 1), NOISE.pixels[:count], PALETTE, end_code=False)], 0, PALETTE)

    assert pixels(draw.image(made.file())) == made.shown()[0]


def test_the_only_pixel_of_a_file_without_an_end_code_is_shown(draw: Renderer) -> None:
    assert draw.image((CASES / "no_eoi_byte_full_1x1.gif").read_bytes()).getpixel((0, 0)) == (255, 0, 0)


ENDS = [
    pytest.param(b"", id="no trailer"),
    pytest.param(b";;; garbage,,,!", id="garbage behind the trailer"),
    pytest.param(b"!\xfe\x40half a comment", id="half a comment"),
    pytest.param(b"!\xff\x0bNETSCAPE2", id="half an extension"),
    pytest.param(b"!", id="the start of an extension"),
    pytest.param(b"\0\0\0", id="padding"),
]


@pytest.mark.parametrize("end", ENDS)
def test_a_file_that_ends_behind_its_frames_is_whole(draw: Renderer, end: bytes) -> None:
    for made in (movie(NOISE), movie(NOISE, SMALL)):
        assert shown(draw, made.file(trailer=end), len(made.frames)) == made.shown()


def test_a_file_that_ends_in_its_last_comment_is_whole(draw: Renderer) -> None:
    assert draw.image((CASES / "cut_in_last_comment.gif").read_bytes()).getpixel((0, 0)) == (255, 0, 0, 255)


def test_a_file_that_ends_behind_its_last_pixel_is_whole(draw: Renderer) -> None:
    made = movie(NOISE)

    assert shown(draw, made.file(trailer=b"")[:-1], 1) == made.shown()


@pytest.mark.parametrize(
    "end",
    [b",", b",\0\0\0\0\1\0", b"!\xf9\4\0", b"!\xf9\4\0\0\0\0\0"],
    ids=["separator", "descriptor", "control", "controls"],
)
def test_a_file_that_ends_in_the_head_of_a_frame_is_broken(draw: Renderer, end: bytes) -> None:
    with pytest.raises(BrokenImage):
        draw(movie(NOISE).file(trailer=end))


@pytest.mark.parametrize("output", [{}, {"format": "webp"}, {"format": "jpg"}, {"frames": "first"}], ids=str)
def test_a_file_that_ends_inside_its_pixels_is_broken(draw: Renderer, output: dict[str, str]) -> None:
    body = saved(
        Image.effect_noise((60, 40), 90), "GIF", save_all=True, append_images=[Image.effect_noise((60, 40), 90)]
    )

    for share in (0.2, 0.45, 0.55, 0.9, 0.99):
        with pytest.raises(BrokenImage):
            draw(body[: int(len(body) * share)], **output)


@pytest.mark.parametrize("end_code", [True, False])
@pytest.mark.parametrize("have", [1, 20, 44])
def test_an_opaque_image_whose_data_ends_early_is_broken(draw: Renderer, have: int, end_code: bool) -> None:
    whole, short = (blocks(codes(NOISE.pixels[:count], 2, end_code=end_code)) for count in (48, have))
    body = movie(replace(NOISE, end_code=end_code)).file().replace(whole, short)

    with pytest.raises(BrokenImage):
        draw(body)


@pytest.mark.parametrize(
    ("screen", "box", "size"),
    [((0, 0), (0, 0, 8, 6), (8, 6)), ((3, 3), (0, 0, 8, 6), (8, 6)), ((8, 6), (4, 3, 8, 6), (12, 9))],
    ids=["no screen", "a small screen", "a frame beyond the screen"],
)
def test_a_frame_larger_than_the_screen_is_shown_whole(
    draw: Renderer, screen: tuple[int, int], box: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    frame = replace(NOISE, box=box)
    body = Movie(screen, [frame], 0, PALETTE).file()

    assert pixels(draw.image(body)) == Movie(size, [frame], 0, PALETTE).shown()[0]


@pytest.mark.parametrize("body", [b"GIF89a", movie().file(), movie().file(trailer=b"\xff")])
def test_a_file_without_a_frame_is_broken(draw: Renderer, body: bytes) -> None:
    with pytest.raises(BrokenImage):
        draw(body)
