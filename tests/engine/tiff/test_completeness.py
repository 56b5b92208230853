"""TIFFs that lack pixels are refused, whichever way they are described and compressed."""

import random
import struct
import time
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from imgserver.errors import BrokenImage, ImageOverLimit, UnsupportedImage
from imgserver.plan.plan import Fit, Px
from tests.engine.conftest import Renderer, difference, opened, saved
from tests.engine.tiff.tiff_files import DEFLATE, Tiff, pages
from tests.engine.tiff.tiff_files import GRAY as GRAY_SPACE
from tests.engine.tiff.tiff_files import LONG as LONG_FIELD
from tests.running_server import CASES

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
    with pytest.raises(UnsupportedImage, match=r"samples|32 bits"):
        draw(tiff(gray(signed=signed, bits=bits, strip=len(pixels)), pixels), FIT)


def test_twelve_bits_are_unsupported_and_not_broken(draw: Renderer) -> None:
    with pytest.raises(UnsupportedImage):
        draw(tiff(gray(bits=12, strip=64 * 48 * 3 // 2), bytes(64 * 48 * 3 // 2)), FIT)


def test_a_directory_beyond_the_file_is_broken(draw: Renderer) -> None:
    with pytest.raises(BrokenImage):
        draw(tiff(gray(), GRAY.tobytes(), big=True, offset=0xFFFF_FFFF_FFFF_FFFF), FIT)


def ramp(x: int, y: int) -> tuple[int, ...]:
    return (4 * x, 5 * y, 99)


# StripOffsets and StripByteCounts take the place of TileOffsets and TileByteCounts.
def tiles_in_strip_tags(image: Tiff) -> bytes:
    data = image.bytes()
    for tile, strip in ((324, 273), (325, 279)):
        data = data.replace(struct.pack("<HH", tile, LONG), struct.pack("<HH", strip, LONG))
    return data


RAW = {
    "strips": Tiff(ramp),
    "one strip": Tiff(ramp, rows_per_strip=48),
    "planes": Tiff(ramp, planar=True),
    "tiles": Tiff(ramp, tile=16),
    "tiles that exceed the image": Tiff(ramp, width=60, height=40, tile=32),
    "16 bits": Tiff(lambda x, y: [257 * value for value in ramp(x, y)], bits=16),
    "bilevel": Tiff(lambda x, y: (x // 4 % 2,), samples=1, photometric=GRAY_SPACE, bits=1, width=63),
    "big": Tiff(ramp, big=True),
    "big-endian": Tiff(ramp, order=">"),
}


@pytest.mark.parametrize("name", RAW)
def test_an_uncompressed_file_is_whole(draw: Renderer, name: str) -> None:
    image = draw.image(RAW[name].bytes()).convert("RGB")

    for x, y in ((0, 0), (33, 17), (59, 39)):
        values = RAW[name].paint(x, y)
        scale = {1: 255, 8: 1, 16: 1 / 257}[RAW[name].bits]
        assert image.getpixel((x, y)) == tuple(round(value * scale) for value in (values * 3)[:3])


@pytest.mark.parametrize("name", RAW)
def test_an_uncompressed_file_with_a_part_beyond_its_end_is_broken(draw: Renderer, name: str) -> None:
    image = RAW[name]
    tag = 324 if image.tile else 273
    data = image.bytes()
    places, lengths = _parts(data, tag, big=image.big, order=image.order)
    far = len(data) - lengths[-1] + 1
    layout = image.order + "I"
    odd = data.replace(struct.pack(layout, places[-1]), struct.pack(layout, far), 1)

    assert odd != data
    with pytest.raises(BrokenImage):
        draw(odd)


def _parts(data: bytes, tag: int, *, big: bool, order: str) -> tuple[list[int], list[int]]:
    """Offsets and sizes of strips or tiles, as Pillow reads them."""
    with Image.open(BytesIO(data)) as image:
        found = image.tag_v2  # type: ignore[attr-defined]
        return list(found[tag]), list(found[325 if tag == 324 else 279])


@pytest.mark.parametrize("counts", [[0], []], ids=["zero", "missing"])
def test_an_unknown_size_of_the_only_strip_follows_from_the_rest(draw: Renderer, counts: list[int]) -> None:
    data = Tiff(ramp, rows_per_strip=48, fields={279: (LONG_FIELD, counts)}).bytes()

    assert draw.image(data).getpixel((33, 40)) == ramp(33, 40)


@pytest.mark.parametrize("kind", [SHORT, LONG])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_unknown_sizes_of_several_strips_follow_from_the_rest(
    draw: Renderer, kind: int, planar: bool, big: bool
) -> None:
    strips = 9 if planar else 3
    whole = Tiff(ramp, planar=planar, big=big, fields={279: (kind, [0] * strips)})

    for counts in ([0] * strips, [0, *[64 * 20 * (1 if planar else 3)] * (strips - 1)]):
        data = replace(whole, fields={279: (kind, counts)}).bytes()
        image = draw.image(data)
        assert [image.getpixel(at) for at in ((0, 0), (33, 17), (63, 47))] == [ramp(0, 0), ramp(33, 17), ramp(63, 47)]


def test_a_hostile_number_of_rows_costs_nothing(draw: Renderer) -> None:
    rows = [(257, LONG, 0xFFFF_FFFF), (278, LONG, 1)]
    begun = time.process_time()
    with pytest.raises((BrokenImage, ImageOverLimit)):
        draw(tiff([*(row for row in gray() if row[0] not in (257, 278)), *rows], GRAY.tobytes()))

    assert time.process_time() - begun < 0.5


def test_an_unknown_size_hides_no_missing_row(draw: Renderer) -> None:
    with pytest.raises(BrokenImage):
        draw(tiff(gray(strip=0), GRAY.tobytes()[:-1]))


def test_a_file_whose_counts_are_zero_is_shown(draw: Renderer) -> None:
    expected = opened(
        (CASES / "f19_counts_zero.tif")
        .read_bytes()
        .replace(struct.pack("<HHII", 279, 4, 1, 0), struct.pack("<HHII", 279, 4, 1, 19200))
    )

    assert draw.image(CASES / "f19_counts_zero.tif").tobytes() == expected.tobytes()


def test_tiles_that_are_described_by_the_tags_of_strips_are_shown(draw: Renderer) -> None:
    image = draw.image(tiles_in_strip_tags(Tiff(ramp, tile=16)))

    assert [image.getpixel(at) for at in ((0, 0), (33, 17), (63, 47))] == [ramp(0, 0), ramp(33, 17), ramp(63, 47)]


def noise() -> Image.Image:
    return Image.frombytes("L", (64, 48), random.Random(1).randbytes(64 * 48))


COMPRESSED = ["tiff_ccitt", "group3", "group4", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits"]


@pytest.mark.parametrize("kept", [0.3, 0.9])
@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_strip_that_ends_early_is_broken(draw: Renderer, name: str, kept: float) -> None:
    bilevel = name in ("tiff_ccitt", "group3", "group4")
    image = noise().convert("1" if bilevel else "L")
    data = saved(image, "TIFF", compression=name)
    with Image.open(BytesIO(data)) as read:
        count = read.tag_v2[279][0]  # type: ignore[attr-defined]
    kind, packed = next(
        (kind, packed)
        for kind, packed in ((LONG, "<HHII"), (SHORT, "<HHIHxx"))
        if struct.pack(packed, 279, kind, 1, count) in data
    )
    cut = data.replace(struct.pack(packed, 279, kind, 1, count), struct.pack(packed, 279, kind, 1, int(count * kept)))

    assert draw.image(data).size == (64, 48)
    with pytest.raises(BrokenImage):
        draw(cut)


@pytest.mark.parametrize("name", ["tiff_lzw", "tiff_adobe_deflate"])
def test_a_strip_with_wrong_bytes_is_broken(draw: Renderer, name: str) -> None:
    data = saved(noise(), "TIFF", compression=name)
    odd = data[:900] + bytes(byte ^ 0x5A for byte in data[900:1000]) + data[1000:]

    with pytest.raises(BrokenImage):
        draw(odd)


@pytest.mark.parametrize("part", [0, 5, 11])
def test_a_tile_that_ends_early_is_broken(draw: Renderer, part: int) -> None:
    whole = Tiff(ramp, tile=16, compression=DEFLATE)
    lengths = [len(one) for one in whole.parts()]
    lengths[part] = 9

    with pytest.raises(BrokenImage):
        draw(Tiff(ramp, tile=16, compression=DEFLATE, fields={325: (LONG_FIELD, lengths)}).bytes())


def test_a_directory_out_of_reach_is_broken(draw: Renderer) -> None:
    with pytest.raises(BrokenImage):
        draw(CASES / "bigtiff_far_directory.tif")
    for offset in (2**31, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1):
        with pytest.raises(BrokenImage):
            draw(tiff(gray(), GRAY.tobytes(), big=True, offset=offset), FIT)


def test_damage_of_one_page_does_not_condemn_another(draw: Renderer) -> None:
    whole = Tiff(ramp, compression=DEFLATE)
    damaged = Tiff(ramp, compression=DEFLATE, fields={279: (LONG_FIELD, [9, 9, 9])})
    data = pages(whole, damaged, whole)

    for page in (1, 3):
        assert draw.image(data, frames=page).getpixel((33, 17)) == ramp(33, 17)
    with pytest.raises(BrokenImage):
        draw(data, frames=2)
