"""TIFFs that libtiff would show in black or in wrong colors are refused."""

import struct
from collections.abc import Sequence

import pytest
from PIL import Image

from imgserver.errors import BrokenImage, UnsupportedImage
from imgserver.plan.plan import Fit, Px
from tests.engine.conftest import Renderer, difference, saved

FIT = Fit(Px(40))
GRAY = Image.radial_gradient("L").resize((64, 48))
LONG, SHORT = 4, 3


def tiff(
    fields: Sequence[tuple[int, int, int]], pixels: bytes, *, big: bool = False, offset: int | None = None
) -> bytes:
    """A little-endian TIFF with one value in each field; the pixels follow the directory."""
    entry, ending = ("<HHQQ", "<Q") if big else ("<HHII", "<I")
    head = (
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, offset or 16) if big else struct.pack("<2sHI", b"II", 42, offset or 8)
    )
    count = struct.pack("<Q" if big else "<H", len(fields) + 1)
    start = len(head) + len(count) + (len(fields) + 1) * struct.calcsize(entry) + struct.calcsize(ending)
    rows = sorted([*fields, (273, LONG, start)])
    packed = b"".join(struct.pack(entry, tag, kind, 1, value) for tag, kind, value in rows)
    return head + count + packed + struct.pack(ending, 0) + pixels


def gray(
    *, compression: int = 1, strip: int = 64 * 48, rows: int = 48, signed: bool = False, bits: int = 8
) -> list[tuple[int, int, int]]:
    return [
        (256, SHORT, 64),
        (257, SHORT, 48),
        (258, SHORT, bits),
        (259, SHORT, compression),
        (262, SHORT, 1),
        (277, SHORT, 1),
        (278, LONG, rows),
        (279, LONG, strip),
        (339, SHORT, 2 if signed else 1),
    ]


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_is_shown(draw: Renderer, big: bool) -> None:
    assert difference(draw.image(tiff(gray(), GRAY.tobytes(), big=big), FIT), GRAY) < 12


@pytest.mark.parametrize("compression", ["lzma", "zstd"])
def test_a_compression_that_this_build_lacks_is_unsupported_and_not_black(draw: Renderer, compression: str) -> None:
    with pytest.raises(UnsupportedImage, match="compression"):
        draw(saved(GRAY, "TIFF", compression=compression), FIT)


def test_the_compression_of_the_requested_page_counts(draw: Renderer) -> None:
    sheets = saved(GRAY, "TIFF", save_all=True, append_images=[GRAY], compression="raw")
    at = sheets.rindex(struct.pack("<HHII", 259, SHORT, 1, 1))
    odd = sheets[: at + 8] + struct.pack("<I", 34925) + sheets[at + 12 :]

    assert difference(draw.image(odd, FIT), GRAY) < 12
    with pytest.raises(UnsupportedImage, match="compression"):
        draw(odd, FIT, frames=2)


@pytest.mark.parametrize(
    "name", ["tiff_ccitt", "group3", "group4", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "tiff_deflate", "packbits"]
)
def test_common_compressions_are_read(draw: Renderer, name: str) -> None:
    image = GRAY.convert("1") if name in ("tiff_ccitt", "group3", "group4") else GRAY

    assert difference(draw.image(saved(image, "TIFF", compression=name), FIT), image) < 40


def test_a_strip_that_is_too_short_for_its_rows_is_broken(draw: Renderer) -> None:
    with pytest.raises(BrokenImage):
        draw(tiff(gray(strip=64 * 20), GRAY.tobytes()), FIT)


def test_a_strip_height_beyond_the_image_is_its_height(draw: Renderer) -> None:
    assert difference(draw.image(tiff(gray(rows=0xFFFF_FFFF), GRAY.tobytes()), FIT), GRAY) < 12


@pytest.mark.parametrize(("signed", "bits"), [(True, 8), (True, 16), (True, 32), (False, 32)])
def test_samples_without_a_known_white_are_unsupported(draw: Renderer, signed: bool, bits: int) -> None:
    pixels = bytes(64 * 48 * bits // 8)
    with pytest.raises(UnsupportedImage, match="cannot be shown"):
        draw(tiff(gray(signed=signed, bits=bits, strip=len(pixels)), pixels), FIT)


def test_twelve_bits_are_unsupported_and_not_broken(draw: Renderer) -> None:
    with pytest.raises(UnsupportedImage):
        draw(tiff(gray(bits=12, strip=64 * 48 * 3 // 2), bytes(64 * 48 * 3 // 2)), FIT)


def test_a_directory_beyond_the_file_is_broken(draw: Renderer) -> None:
    with pytest.raises(BrokenImage):
        draw(tiff(gray(), GRAY.tobytes(), big=True, offset=0xFFFF_FFFF_FFFF_FFFF), FIT)
