"""Stripping without decoding. Hostile bytes give None, never an error."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgserver.engine.lossless_strip import WALKERS, strip
from tests.decompression_bombs import PNG_MAGIC, png
from tests.engine.conftest import opened, saved
from tests.running_server import SAMPLES

WORDS = b"planted-words"
IMAGE = Image.open(SAMPLES / "cat.png").convert("RGB").resize((60, 40))
TRANSPARENT = IMAGE.convert("RGBA")
TRANSPARENT.putalpha(128)
FRAMES = [IMAGE.rotate(angle) for angle in (0, 90, 180)]


def exif() -> Image.Exif:
    made = Image.Exif()
    made[0x010E], made[0x013B] = WORDS.decode(), WORDS.decode()
    made.get_ifd(0x8825)[1] = "N"
    return made


def png_info():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", WORDS.decode())
    info.add_text("Packed", WORDS.decode() * 9, zip=True)
    info.add_itxt("Title", WORDS.decode())
    return info


PLAIN = {
    "jpg": saved(IMAGE, "JPEG", exif=exif(), comment=WORDS, icc_profile=WORDS * 9, xmp=WORDS),
    "jpg progressive": saved(IMAGE, "JPEG", progressive=True, exif=exif(), comment=WORDS),
    "jpg restarts": saved(IMAGE, "JPEG", restart_marker_blocks=2, comment=WORDS),
    "jpg gray": saved(IMAGE.convert("L"), "JPEG", comment=WORDS),
    "jpg cmyk": saved(IMAGE.convert("CMYK"), "JPEG", comment=WORDS),
    "png": saved(IMAGE, "PNG", exif=exif(), pnginfo=png_info(), icc_profile=WORDS * 9),
    "png alpha": saved(TRANSPARENT, "PNG", pnginfo=png_info()),
    "png palette": saved(IMAGE.quantize(16), "PNG", pnginfo=png_info(), transparency=3),
    "png of one bit": saved(IMAGE.convert("1"), "PNG", pnginfo=png_info()),
    "webp": saved(IMAGE, "WEBP", exif=exif(), xmp=WORDS, icc_profile=WORDS * 9),
    "webp lossless": saved(TRANSPARENT, "WEBP", lossless=True, exif=exif()),
    "webp animation": saved(
        FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], exif=exif(), xmp=WORDS, loop=3, duration=70
    ),
    "avif": saved(IMAGE, "AVIF", exif=exif(), xmp=WORDS),
    "avif alpha": saved(TRANSPARENT, "AVIF", exif=exif(), xmp=WORDS),
    "avif gray": saved(IMAGE.convert("L"), "AVIF", exif=exif()),
    "gif": saved(IMAGE.quantize(16), "GIF", comment=WORDS),
    "gif animation": saved(
        FRAMES[0].quantize(8), "GIF", save_all=True, append_images=FRAMES[1:], comment=WORDS, loop=3, duration=70
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_pixels_are_kept_and_metadata_is_dropped(name):
    before = opened(PLAIN[name])

    body = strip(name.split()[0], PLAIN[name])

    assert body is not None
    assert WORDS not in body
    after = opened(body)
    assert after.info.get("loop") == before.info.get("loop")
    for frame in range(getattr(before, "n_frames", 1)):
        before.seek(frame)
        after.seek(frame)
        assert after.convert("RGBA").tobytes() == before.convert("RGBA").tobytes()
        assert after.info.get("duration") == before.info.get("duration")


@pytest.mark.parametrize("name", PLAIN)
def test_bytes_after_the_image_are_dropped(name):
    kind = name.split()[0]

    assert strip(kind, PLAIN[name] + b"PK\x03\x04" + WORDS) == strip(kind, PLAIN[name])


@pytest.mark.parametrize("name", PLAIN)
def test_stripping_twice_changes_nothing(name):
    kind = name.split()[0]
    once = strip(kind, PLAIN[name])

    assert once is not None
    assert strip(kind, once) == once


@pytest.mark.parametrize("name", PLAIN)
def test_a_truncated_file_gives_none(name):
    data = PLAIN[name]

    for cut in range(0, strip_end(name, data), max(1, len(data) // 97)):
        assert strip(name.split()[0], data[:cut]) is None


def strip_end(name: str, data: bytes) -> int:
    """The length without bytes that a decoder does not need. It needs the trailer of a GIF and of a JPEG."""
    return len(data) - 1 if name.startswith(("jpg", "gif")) else len(data) - 4


def test_a_thumbnail_in_jfif_is_dropped():
    data = saved(IMAGE, "JPEG")
    at = data.index(b"JFIF\0") - 4
    size = struct.unpack_from(">H", data, at + 2)[0]
    jfif = bytearray(data[at : at + 2 + size]) + WORDS * 3
    jfif[16:18] = b"\x0d\x01"
    jfif[2:4] = struct.pack(">H", len(jfif) - 2)

    body = strip("jpg", data[:at] + bytes(jfif) + data[at + 2 + size :])

    assert body == strip("jpg", data)


def test_an_archive_between_the_segments_of_a_jpeg_is_dropped():
    data = saved(IMAGE, "JPEG")
    archive = b"\xff\xe7" + struct.pack(">H", 2 + 2 + 4 + len(WORDS)) + b"PK\x03\x04" + b"\0\0" + WORDS

    assert strip("jpg", data[:2] + archive + data[2:]) == strip("jpg", data)


@pytest.mark.parametrize(
    "slack", [b"PK\x03\x04" + WORDS, b"<script>alert(1)</script>", b"<?php x ?>", b"%PDF-1.7"], ids=repr
)
def test_a_scan_with_signs_of_another_file_type_gives_none(slack):
    data = saved(IMAGE, "JPEG")

    assert strip("jpg", data[:-2] + slack + data[-2:]) is None


def png_of(stream: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    return png(4, 4, *chunks, (b"IDAT", stream), (b"IEND", b""))


ROWS = bytes(4 * (1 + 4 * 3))


def test_bytes_after_the_compressed_rows_are_dropped():
    assert strip("png", png_of(zlib.compress(ROWS) + WORDS)) == png_of(zlib.compress(ROWS))


@pytest.mark.parametrize("rows", [ROWS + WORDS, ROWS[:-1], b""], ids=["more", "less", "none"])
def test_a_wrong_number_of_rows_gives_none(rows):
    assert strip("png", png_of(zlib.compress(rows))) is None


def test_a_png_that_inflates_to_too_much_is_abandoned_early():
    assert strip("png", png_of(zlib.compress(bytes(200_000_000), 9))) is None


def test_a_palette_of_an_image_with_full_colors_is_dropped():
    hint = png_of(zlib.compress(ROWS), (b"PLTE", WORDS + b"xx"))

    assert strip("png", hint) == png_of(zlib.compress(ROWS))


def test_an_unknown_critical_chunk_gives_none():
    assert strip("png", png_of(zlib.compress(ROWS), (b"ABCD", WORDS))) is None


def test_a_script_in_the_comment_of_a_gif_is_dropped():
    """A GIF whose width is the beginning of a JavaScript comment, which a comment block ends."""
    data = PLAIN["gif"]
    comment = b"\x21\xfe\x10*/=1;alert(1)//x\0"
    head = 13 + (3 << ((data[10] & 7) + 1))

    body = strip("gif", data[:6] + b"/*" + data[8:head] + comment + data[head:])

    assert body is not None
    assert b"alert" not in body


def test_other_formats_give_none():
    assert strip("tiff", b"II*\0") is None
    assert set(WALKERS) == {"jpg", "png", "webp", "gif", "avif"}


@pytest.mark.parametrize("name", sorted(WALKERS))
@given(
    data=st.binary(max_size=200), changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8)
)
def test_no_bytes_raise_an_error(name, data, changes):
    strip(name, data)
    strip(name, PNG_MAGIC + data)
    odd = bytearray(PLAIN[name])
    for at, byte in changes:
        odd[at % len(odd)] = byte
    strip(name, bytes(odd))
