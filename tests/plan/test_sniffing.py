"""Formats and sizes from the first bytes of a file; no bytes raise an error."""

import gzip
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgserver.plan.sniffing import HEAD_BYTES, UNKNOWN, Sniffed, sniff
from tests import decompression_bombs
from tests.running_server import SAMPLES


def saved(name: str, **options: Any) -> bytes:
    file = BytesIO()
    Image.new("RGB", (123, 77)).save(file, name, **options)
    return file.getvalue()


def squeezed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def movie(name: str) -> bytes:
    return saved(name, save_all=True, append_images=[Image.new("RGB", (123, 77), (9, 9, 9))], duration=50, loop=0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved("JPEG"), Sniffed("jpg", 123, 77)),
        (saved("JPEG", progressive=True), Sniffed("jpg", 123, 77, whole=True)),
        (saved("JPEG", exif=b"Exif\0\0" + bytes(60_000)), Sniffed("jpg", 123, 77)),
        (saved("PNG"), Sniffed("png", 123, 77)),
        (saved("GIF"), Sniffed("gif", 123, 77, whole=True)),
        (movie("GIF"), Sniffed("gif", 123, 77, animated=True, whole=True)),
        (saved("WEBP"), Sniffed("webp", 123, 77, whole=True)),
        (saved("WEBP", lossless=True), Sniffed("webp", 123, 77, whole=True)),
        (movie("WEBP"), Sniffed("webp", 123, 77, animated=True, whole=True)),
        (saved("BMP"), Sniffed("bmp", 123, 77, whole=True)),
        (saved("ICO", sizes=[(64, 40)]), Sniffed("ico", 64, 40, whole=True)),
        (saved("AVIF"), Sniffed("avif", 123, 77, whole=True)),
        (movie("AVIF"), Sniffed("avif", 123, 77, whole=True)),
        (
            b'\xef\xbb\xbf <?xml version="1.0"?><!-- a --><svg width="12" height="34px">',
            Sniffed("svg", 12, 34, whole=True),
        ),
        (b"<svg viewBox='0 0 9 9'>", Sniffed("svg", whole=True)),
        (b'<!DOCTYPE svg [<!ENTITY a "]>">]><s:svg width="12" height="34">', Sniffed("svg", 12, 34, whole=True)),
        ('\ufeff<?xml version="1.0"?><svg width="12">'.encode("utf-16-be"), Sniffed("svg", whole=True)),
        (squeezed(b"<!-- a --><svg>"), Sniffed("svg", whole=True)),
        (b"<!--" + b"x" * HEAD_BYTES + b"--><svg>", Sniffed("svg", whole=True)),
        (b"<!-- a --><!DOCTYPE html><svg>", UNKNOWN),
        (b"<svgz>", UNKNOWN),
        (b"<!-- never closed <svg>", UNKNOWN),
        (squeezed(b"a text"), UNKNOWN),
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", Sniffed("heic")),
    ],
)
def test_format_and_size_are_found_in_the_head(data: bytes, expected: Sniffed) -> None:
    assert sniff(data[:HEAD_BYTES]) == expected


def test_the_size_of_a_tiff_with_its_directory_in_front_is_found() -> None:
    assert sniff(saved("TIFF")).format == "tiff"
    assert sniff(saved("TIFF")).pixels in (None, 123 * 77)


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.[jp][pn]g")), ids=lambda path: path.name)
def test_the_size_of_real_photographs_is_found(path: Path) -> None:
    with path.open("rb") as file, Image.open(path) as image:
        found = sniff(file.read(HEAD_BYTES))

        assert (found.width, found.height) == image.size


@pytest.mark.parametrize("name", [name for name in decompression_bombs.STRANGERS if "svg" not in name])
def test_other_files_are_unknown(name: str) -> None:
    assert sniff(decompression_bombs.STRANGERS[name]) == UNKNOWN


MAGICS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"II*\0", b"MM\0*", b"<svg "]


MAGICS += [b"BM" + bytes(12) + b"\x28\0\0\0", b"\0\0\1\0\1\0" + bytes(12) + b"\x16\0\0\0\x28\0\0\0"]


@given(st.sampled_from([*MAGICS, b"\0\0\0\x1cftypavif", b"RIFF\0\0\0\0WEBPVP8X"]), st.binary(max_size=300))
def test_no_bytes_raise_an_error(magic: bytes, rest: bytes) -> None:
    found = sniff(magic + rest)

    assert found.width is None or found.width >= 0


@pytest.mark.parametrize(
    "data",
    [
        b"<" * HEAD_BYTES,
        b"<!--" * 20_000,
        b"<?" * 40_000,
        b" " * HEAD_BYTES,
        b"\xff\xd8" + b"\xff" * HEAD_BYTES,
        b"\xff\xd8\xff\xe0\0\0" * 13_000,
        b"\0\0\0\x1cftypavif" + b"ispe" * 20_000,
        b"<svg " + b"x='" * 26_000,
        b"<!DOCTYPE svg [" + b"<" * HEAD_BYTES,
        b"<!DOCTYPE svg [" + b"<!--" * 20_000,
        b"<!DOCTYPE svg " + b"'\"" * 40_000,
        b"<!DOCTYPE svg [" + b"<?a" * 26_000 + b"]",
        b"<!---->" * 11_000,
        squeezed(b" " * 80_000_000),
    ],
)
def test_hostile_heads_cost_little(data: bytes) -> None:
    started = time.process_time()
    sniff(data)

    assert time.process_time() - started < 0.05
