"""EXIF of an AVIF or HEIC is left alone if it is plain, and hidden if it is not or cannot be found."""

import struct
import time
from io import BytesIO

import pytest
from PIL import Image

from imgserver.engine.sanitize import heif
from imgserver.errors import BrokenImage
from tests.engine.conftest import saved
from tests.engine.sanitize.test_exif import COPYRIGHT, block, hostile

TEXT = block([(COPYRIGHT, 2, 4, 0x646F_6F67)])


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def avif(data: bytes) -> bytes:
    return saved(Image.new("RGB", (8, 8)), "AVIF", exif=data)


def meta(location: bytes) -> bytes:
    """A file with one EXIF item, number 1, of version 2, and this `iloc`."""
    item = box(b"infe", b"\2\0\0\0\0\1\0\0Exif\0")
    return box(b"meta", bytes(4) + box(b"iinf", bytes(4) + b"\0\1" + item) + box(b"iloc", location))


def test_plain_exif_is_left_alone() -> None:
    assert heif.whole(BytesIO(avif(TEXT))) is None
    assert heif.whole(BytesIO(saved(Image.new("RGB", (8, 8)), "AVIF"))) is None


def test_hostile_exif_is_hidden_and_nothing_else_changes() -> None:
    data = avif(hostile(None))

    changed = heif.whole(BytesIO(data))

    assert changed is not None
    at = data.index(b"Exif")
    assert changed == data[:at] + b"none" + data[at + 4 :]


@pytest.mark.parametrize(
    "location",
    [
        b"",
        b"\0\0\0\0\x44\0",
        b"\0\0\0\0\x44\0\0\1\0\1\0\0\0\2" + bytes(16),
        b"\1\0\0\0\x44\0\0\1\0\1\0\2\0\0\0\1" + bytes(8),
        b"\0\0\0\0\x88\0\0\1\0\1\0\0\0\1" + b"\xff" * 8 + bytes(8),
    ],
    ids=["empty", "no item", "two extents", "made of other items", "beyond every file"],
)
def test_exif_at_an_unknown_place_is_hidden(location: bytes) -> None:
    assert b"Exif" not in (heif.whole(BytesIO(meta(location))) or b"Exif")


def test_extents_without_bytes_cost_nothing() -> None:
    begun = time.process_time()
    heif.whole(BytesIO(meta(b"\0\0\0\0\0\0\xff\xff" + b"\0\1\0\0\xff\xff" * 40_000)))

    assert time.process_time() - begun < 0.5


def test_several_tables_of_items_are_refused() -> None:
    with pytest.raises(BrokenImage):
        heif.whole(BytesIO(meta(b"") * 2))
    with pytest.raises(BrokenImage):
        heif.whole(BytesIO(box(b"free", b"") * 6_000))
