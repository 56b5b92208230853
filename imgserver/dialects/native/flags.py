"""Flags, the values of `fl`: one row each."""

import re

from imgserver.dialects.native.refusals import Misread
from imgserver.errors import NotInThisBuild

FLAGS: dict[str, str] = {
    "attachment": "download instead of display; `attachment:holiday` names the file, the format's suffix is added",
    "animated": "keep every frame, also where it is not the default",
    "still": "the first frame only",
    "lossless": "webp and avif without loss",
    "progressive": "jpg, png and gif in passes",
    "keep_metadata": "keep EXIF, XMP and IPTC, without the place (GPS); the orientation is reset",
    "keep_copyright": "keep the copyright and author fields",
    "keep_profile": "keep colours and profile as they are",
    "tile": "layers only",
}
FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
CONTRADICTIONS = (("animated", "still"), ("keep_metadata", "keep_copyright"))

Flags = dict[str, str]


def read_flags(text: str) -> Flags:
    """Names to arguments, "" without one."""
    found: Flags = {}
    for part in text.split("."):
        name, colon, argument = part.partition(":")
        if name not in FLAGS or name in found:
            raise Misread(words=tuple(FLAGS))
        if colon and (name != "attachment" or not FILE_NAME.fullmatch(argument)):
            raise Misread("attachment:name with 1-100 of A-Z a-z 0-9 _ -; other flags take no argument")
        found[name] = argument
    if "tile" in found:
        raise NotInThisBuild("fl: tile belongs to layers, which are not in this build", argument="fl", value="tile")
    return found
