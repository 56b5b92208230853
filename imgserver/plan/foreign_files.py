"""Files that are no images for this server, by their first bytes: what a refusal calls them.

The list only makes messages clear. A file that is not in it is refused, too, if no format of `sniffing.py` matches.
"""

import re
import struct

CAMERA_RAW = "a camera raw file"

# Magic numbers at the start of a file.
STARTS = (
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"8BPS", "a Photoshop document"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance image"),
    (b"SIMPLE  =", "a FITS file"),
    (b"DDS ", "a DDS texture"),
    (b"qoif", "a QOI image"),
    (b"FUJIFILMCCD-RAW", CAMERA_RAW),
    (b"IIRO", CAMERA_RAW),
    (b"IIRS", CAMERA_RAW),
    (b"MMOR", CAMERA_RAW),
    (b"IIU\0", CAMERA_RAW),
    (b"\0MRM", CAMERA_RAW),
    (b"FOVb", CAMERA_RAW),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
    (b"fLaC", "a FLAC file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
HTML = re.compile(rb"(?i)\s*(?:<!--.{0,2000}?-->\s*)?(?:<!doctype html|<html|<head|<body|<script|<title)", re.DOTALL)
# A camera's TIFF holds its picture in a sub-directory; the first directory is a small preview.
CR2 = (b"CR\x02", 8)
NEW_SUBFILE_TYPE, SUB_IFDS, DNG_VERSION = 254, 330, 50706
MAX_TAGS = 200


def kind_of(head: bytes) -> str:
    """What a file with these first bytes is, with its article; "this kind of file" if it is unknown. Never raises."""
    for start, kind in STARTS:
        if head.startswith(start):
            return kind
    if head[4:8] == b"ftyp":
        return CAMERA_RAW if head[8:12] == b"crx " else "a video or audio file (MP4, QuickTime)"
    if head[:4] == b"RIFF":
        return "a video or audio file (RIFF)"
    if HTML.match(head):
        return "an HTML page"
    if is_camera_raw(head):
        return CAMERA_RAW
    return "a text" if _is_text(head) else "this kind of file"


def is_camera_raw(head: bytes) -> bool:
    """Whether a TIFF is a raw file of a camera (CR2, DNG, NEF, ARW): only its preview could be shown."""
    if head[CR2[1] :].startswith(CR2[0]):
        return head[:4] in (b"II*\0", b"MM\0*")
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return False
    try:
        tags = _first_directory(head)
    except struct.error:
        return False
    return DNG_VERSION in tags or (tags.get(NEW_SUBFILE_TYPE) == 1 and SUB_IFDS in tags)


def _first_directory(head: bytes) -> dict[int, int]:
    """The tags of the first directory with the first 32 bits of their values."""
    order = "<" if head[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", head, 4)
    (count,) = struct.unpack_from(order + "H", head, at)
    entries = (struct.unpack_from(order + "HHII", head, at + 2 + 12 * n) for n in range(min(count, MAX_TAGS)))
    return {tag: value for tag, _, _, value in entries}


def _is_text(head: bytes) -> bool:
    sample = head[:512]
    return bool(sample) and not any(byte < 32 and byte not in b"\t\n\r\f" for byte in sample)
