"""Describes a file from its header and metadata, for people who examine an image. Nothing is decoded."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from imgserver.engine.header import SAMPLE_BYTES, Header, examine, reopened
from imgserver.engine.job import Limits
from imgserver.engine.vips import Image, names_of, reading, text_of

# The EXIF tags in a description. It never contains the place, serial numbers or the owner's name; `has_place` says
# whether the file holds a place.
SHOWN = (
    "Make",
    "Model",
    "LensModel",
    "DateTimeOriginal",
    "ExposureTime",
    "FNumber",
    "ISOSpeedRatings",
    "PhotographicSensitivity",
    "FocalLength",
    "Software",
    "Artist",
    "Copyright",
)
PLACE = "exif-ifd3-"
# libvips writes a field as "raw (readable, type, n components, m bytes)".
FIELD = re.compile(r"(.*), \w[\w ]*, \d+ components?, \d+ bytes\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Description:
    """`width` and `height` are in pixels as stored, before `orientation` (EXIF, 1-8) is applied. `bits` are of one
    sample, `bytes` of the file, `delays` in ms for each frame.

    `profile` is the name of the ICC profile: "" if it has no name, None without a profile.
    """

    format: str
    bytes: int
    width: int
    height: int
    orientation: int
    frames: int
    delays: tuple[int, ...]
    bands: int
    bits: int
    alpha: bool
    interlaced: bool
    interpretation: str
    profile: str | None
    exif: Mapping[str, str]
    has_place: bool


def describe(path: str, limits: Limits) -> Description:
    """The description of a file. Raises NotFound, UnsupportedImage, BrokenImage, ImageOverLimit."""
    header = examine(path, limits)
    with reading():
        return _described(header, reopened(header))


def _described(header: Header, image: Image) -> Description:
    fields = names_of(image)
    return Description(
        format=header.format,
        bytes=header.bytes,
        width=header.dims.width,
        height=header.dims.height,
        orientation=header.dims.orientation,
        frames=header.file_frames,
        delays=tuple(image.get("delay")) if "delay" in fields else (),
        bands=header.bands,
        bits=8 * SAMPLE_BYTES[image.format],
        alpha=header.alpha,
        interlaced=header.interlaced,
        interpretation=header.interpretation,
        profile=profile_name(bytes(image.get("icc-profile-data"))) if header.profile else None,
        exif=_exif(image, fields),
        has_place=any(name.startswith(PLACE) for name in fields),
    )


def _exif(image: Image, fields: frozenset[str]) -> dict[str, str]:
    found = {tag: f"exif-ifd{ifd}-{tag}" for tag in SHOWN for ifd in (2, 0) if f"exif-ifd{ifd}-{tag}" in fields}
    values = {tag: _value(text_of(image, name)) for tag, name in found.items()}
    return {tag: value for tag, value in values.items() if value}


def _value(text: str) -> str:
    match = FIELD.fullmatch(text)
    if not match:
        return text.strip()
    both = match[1]
    # libvips writes a text twice, and it may contain brackets. Of a number, the second form has the unit.
    half = (len(both) - 2) // 2
    return (both[:half] if both == f"{both[:half]} ({both[:half]}" else both.partition(" (")[2]).strip()


def profile_name(profile: bytes) -> str:
    """The description in an ICC profile (ICC.1:2022 7.3 and 10.15; before version 4: ICC.1:2001 6.5.17), or ""."""
    try:
        count = struct.unpack_from(">I", profile, 128)[0]
        tags = (struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 100)))
        offset = next((start for signature, start, _ in tags if signature == b"desc"), None)
        return "" if offset is None else _text(profile, offset)
    except (struct.error, UnicodeDecodeError):
        return ""


def _text(profile: bytes, offset: int) -> str:
    if profile[offset : offset + 4] == b"mluc":
        length, start = struct.unpack_from(">II", profile, offset + 20)
        return profile[offset + start : offset + start + length].decode("utf-16-be").rstrip("\0")
    length = struct.unpack_from(">I", profile, offset + 8)[0]
    return profile[offset + 12 : offset + 12 + length].decode("ascii").rstrip("\0")
