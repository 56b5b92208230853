"""EXIF is read within bounds, and what the server needs of it stays."""

import struct
import time
from collections.abc import Sequence

import pytest
from PIL import Image

from imgserver.engine.sanitize import exif
from imgserver.plan.plan import Fit, Orient, Px
from tests.engine.conftest import Renderer, saved
from tests.running_server import CASES

SHORT, LONG, ASCII = 3, 4, 2
ORIENTATION, ARTIST, COPYRIGHT, EXIF_POINTER, GPS_POINTER = 0x0112, 0x013B, 0x8298, 0x8769, 0x8825

Row = tuple[int, int, int, int]


def block(rows: Sequence[Row], *, order: str = "<", tail: bytes = b"") -> bytes:
    """A block with one directory, whose rows are (tag, type, count, value or offset), and `tail` behind it."""
    head = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(rows))
    packed = b"".join(
        struct.pack(order + "HHI", tag, kind, count) + struct.pack(order + ("HH" if kind == SHORT else "I"), *values)
        for tag, kind, count, value in rows
        for values in [(value, 0) if kind == SHORT else (value,)]
    )
    return head + packed + bytes(4) + tail


def values(data: bytes) -> dict[int, object]:
    """The first directory, as Pillow reads it."""
    found = Image.Exif()
    found.load(data)
    return dict(found)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_values_stay(order: str, prefix: bytes) -> None:
    image = Image.Exif()
    image[ORIENTATION], image[ARTIST], image[COPYRIGHT] = 6, "Ada", "An owner with a long name"
    image.get_ifd(EXIF_POINTER)[0x9003] = "2024:05:06 07:08:09"
    image.get_ifd(GPS_POINTER)[1] = "N"
    image.endian = order
    original = prefix + image.tobytes()[6:]

    result = exif.bounded(original)

    assert result.startswith(prefix + (b"II*\0" if order == "<" else b"MM\0*"))
    found = Image.Exif()
    found.load(result if prefix else b"Exif\0\0" + result)
    assert (found[ORIENTATION], found[ARTIST], found[COPYRIGHT]) == (6, "Ada", "An owner with a long name")
    assert found.get_ifd(EXIF_POINTER)[0x9003] == "2024:05:06 07:08:09"
    assert found.get_ifd(GPS_POINTER)[1] == "N"


def test_maker_note_thumbnail_and_further_directories_are_dropped() -> None:
    rows = [(ORIENTATION, SHORT, 1, 3), (0x014A, LONG, 1, 8), (0x927C, 7, 4, 99), (0xA005, LONG, 1, 8)]
    thumbnail = block(rows)[:-4] + struct.pack("<I", 8)

    assert list(values(b"Exif\0\0" + exif.bounded(thumbnail))) == [ORIENTATION]


@pytest.mark.parametrize(
    "rows",
    [
        [(EXIF_POINTER, LONG, 1, 8)] * 5_000,
        [(tag, SHORT, 1, 1) for tag in range(65_000)],
        [(ARTIST, ASCII, 60_000, 8)] * 5_000,
    ],
    ids=["pointers", "tags", "shared values"],
)
def test_the_size_of_the_result_is_bounded(rows: list[Row]) -> None:
    data = block([(ORIENTATION, SHORT, 1, 8), *rows], tail=bytes(100_000))

    result = exif.bounded(data)

    assert len(result) <= exif.MAX_BYTES
    assert struct.unpack_from("<H", result, 8)[0] <= exif.MAX_ENTRIES + 2
    assert values(b"Exif\0\0" + result)[ORIENTATION] == 8


@pytest.mark.parametrize("data", [b"", b"Exif\0\0", b"II*\0", b"XX*\0\x08\0\0\0", b"Exif\0\0MM\0*"])
def test_an_unreadable_block_is_dropped(data: bytes) -> None:
    assert exif.bounded(data) == b""


def test_values_and_directories_beyond_the_block_are_dropped() -> None:
    rows = [(ORIENTATION, SHORT, 1, 6), (ARTIST, ASCII, 99, 1_000_000), (EXIF_POINTER, LONG, 1, 0xFFFF_FFFF)]

    assert values(b"Exif\0\0" + exif.bounded(block(rows))) == {ORIENTATION: 6}


def hostile(orientation: int | None, pointers: int = 4_000) -> bytes:
    """A block whose directory points to itself thousands of times."""
    rows = [(ORIENTATION, SHORT, 1, orientation)] if orientation else []
    return block([*rows, *[(EXIF_POINTER, LONG, 1, 8)] * pointers])


def with_exif(name: str, data: bytes) -> bytes:
    """A file with the block as it is."""
    image = Image.new("RGB", (64, 40), (9, 99, 199))
    return saved(image, name, exif=data if name in ("PNG", "AVIF") else b"Exif\0\0" + data)


FORMATS = ["JPEG", "PNG", "WEBP"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_orientation_of_a_file_with_hostile_exif_is_applied(draw: Renderer, name: str, orientation: int) -> None:
    result = draw.image(with_exif(name, hostile(orientation)), Orient(), Fit(Px(20)))

    assert result.size == {1: (20, 13), 6: (20, 32)}[orientation]


@pytest.mark.parametrize("name", [*FORMATS, "AVIF"])
def test_the_copyright_stays(draw: Renderer, name: str) -> None:
    image = Image.Exif()
    image[COPYRIGHT] = "An owner with a long name"

    result = draw.image(with_exif(name, image.tobytes()[6:]), format="jpg", metadata="copyright")

    assert str(result.getexif()[COPYRIGHT]).strip() == "An owner with a long name"


@pytest.mark.alone
@pytest.mark.parametrize("name", [*FORMATS, "AVIF"])
def test_hostile_exif_costs_about_as_much_as_none(draw: Renderer, name: str) -> None:
    def cpu_seconds(data: bytes) -> float:
        begun = time.process_time()
        draw(data, Orient(), Fit(Px(20)), format="png")
        return time.process_time() - begun

    # Pillow writes a block without orientation as it is into an AVIF.
    plain, heavy = saved(Image.new("RGB", (64, 40)), name), with_exif(name, hostile(None))
    best = [min(cpu_seconds(data) for _ in range(3)) for data in (plain, heavy)]

    assert best[1] < best[0] + 0.02


ONE, MANY = [(ORIENTATION, SHORT, 1, 1)], [(tag, SHORT, 1, 1) for tag in range(exif.MAX_ENTRIES + 1)]


@pytest.mark.parametrize(
    ("rows", "plain"),
    [
        (ONE, True),
        ([*ONE, (EXIF_POINTER, LONG, 1, 90), (GPS_POINTER, LONG, 1, 90)], True),
        (MANY, False),
        ([(EXIF_POINTER, LONG, 1, 8)], False),
        ([(EXIF_POINTER, LONG, 1, 90)] * 2, False),
        ([(GPS_POINTER, LONG, 1, 8)], False),
        ([(0xA005, LONG, 1, 90)], False),
    ],
)
def test_a_plain_block_has_each_pointer_once(rows: list[Row], plain: bool) -> None:
    assert exif.is_plain(block(rows, tail=bytes(100))) is plain
    assert exif.is_plain(b"Exif\0\0" + block(rows, order=">", tail=bytes(100))) is plain


def test_two_thousand_pointers_are_followed_once(draw: Renderer) -> None:
    assert draw(CASES / "exif_2000_pointers.jpg", Orient(), Fit(Px(20))).timings.cpu_seconds < 1
