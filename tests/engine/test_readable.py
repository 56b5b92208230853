"""What no worker can read is refused by its first bytes, with what it is."""

import struct
from io import BytesIO

import pytest
from PIL import Image

from imgserver.engine.readable import readable_format
from imgserver.errors import UnsupportedImage
from tests import decompression_bombs
from tests.engine.conftest import Renderer, saved
from tests.running_server import CASES

TAG = struct.Struct("<HHII")


def tiff_head(*tags: tuple[int, int]) -> bytes:
    entries = b"".join(TAG.pack(tag, 4, 1, value) for tag, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def picture(name: str) -> bytes:
    return saved(Image.new("RGB", (8, 8)), name)


FOREIGN = {
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "psd": (decompression_bombs.STRANGERS["psd"], "a Photoshop document"),
    "mp4": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video or audio file (MP4, QuickTime)"),
    "mov": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video or audio file (MP4, QuickTime)"),
    "avi": (b"RIFF\0\0\0\0AVI LIST", "a video or audio file (RIFF)"),
    "webm": (b"\x1aE\xdf\xa3\x01\0\0\0", "a Matroska or WebM video"),
    "jxl": (b"\xff\x0a\x08\x10", "a JPEG XL image"),
    "jxl box": (b"\0\0\0\x0cJXL \r\n\x87\n\0\0", "a JPEG XL image"),
    "jp2": (b"\0\0\0\x0cjP  \r\n\x87\n\0\0", "a JPEG 2000 image"),
    "cr2": (b"II*\0\x10\0\0\0CR\x02\0", "a camera raw file"),
    "cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera raw file"),
    "raf": (b"FUJIFILMCCD-RAW 0201", "a camera raw file"),
    "orf": (b"IIRO\x08\0\0\0", "a camera raw file"),
    "dng": (tiff_head((254, 0), (50706, 0x401)), "a camera raw file"),
    "nef": (tiff_head((254, 1), (330, 99)), "a camera raw file"),
    "html": (b"\n<!-- a -->\n<!DOCTYPE html><svg>", "an HTML page"),
    "html without doctype": (b"<HTML><head>", "an HTML page"),
    "text": (b"not an image\n", "a text"),
    "json": (b'{"error": "not found"}', "a text"),
    "zip": (b"PK\x03\x04\x14\0", "a ZIP archive"),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0", "a gzip archive"),
    "zeros": (bytes(99), "this kind of file"),
    "empty": (b"", "the source is empty"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_named_in_the_refusal(name: str) -> None:
    data, kind = FOREIGN[name]

    with pytest.raises(UnsupportedImage) as caught:
        readable_format(data, svg=True)
    assert kind in caught.value.detail


@pytest.mark.parametrize("name", FOREIGN)
def test_a_worker_refuses_it_too(draw: Renderer, name: str) -> None:
    with pytest.raises(UnsupportedImage):
        draw(FOREIGN[name][0])


@pytest.mark.parametrize(("name", "found"), [("JPEG", "jpg"), ("PNG", "png"), ("TIFF", "tiff"), ("AVIF", "avif")])
def test_an_image_is_readable(name: str, found: str) -> None:
    assert readable_format(picture(name), svg=False) == found


def test_a_tiff_with_sub_directories_is_no_raw_file() -> None:
    assert readable_format(tiff_head((254, 0), (330, 99)), svg=False) == "tiff"


def test_svg_is_readable_only_where_it_is_on() -> None:
    svg = (CASES / "prefixed.svg").read_bytes()

    assert readable_format(svg, svg=True) == "svg"
    with pytest.raises(UnsupportedImage, match=r"limits\.svg"):
        readable_format(svg, svg=False)


def test_whatever_pillow_writes_and_no_worker_reads_is_unsupported() -> None:
    for name in ("PPM", "TGA", "PCX", "JPEG2000", "ICNS", "DDS", "PDF"):
        file = BytesIO()
        Image.new("RGB", (16, 16)).save(file, name)
        with pytest.raises(UnsupportedImage):
            readable_format(file.getvalue(), svg=True)
