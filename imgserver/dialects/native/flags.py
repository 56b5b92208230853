"""Flags, the values of `fl`: one row each."""

import re

from imgserver.dialects.native.messages import InvalidValue
from imgserver.errors import NotInThisBuild

FLAGS: dict[str, str] = {
    "attachment": "download instead of display; `attachment:holiday` names the file, without its suffix",
    "animated": "keep all frames, even if the default is one",
    "still": "the first frame only",
    "lossless": "webp and avif without loss",
    "progressive": "jpg, png and gif in passes",
    "keep_metadata": "keep EXIF, XMP and IPTC, except the place (GPS); the orientation is reset",
    "keep_copyright": "keep the copyright and author fields",
    "keep_profile": "keep colors and profile of the original",
    "tile": "layers only",
}
FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
CONTRADICTIONS = (("animated", "still"), ("keep_metadata", "keep_copyright"))

# Arguments by name, "" without an argument.
Flags = dict[str, str]


def read_flags(text: str) -> Flags:
    """The flags in a value such as `still.attachment:cat`. Raises InvalidValue and NotInThisBuild."""
    found: Flags = {}
    for part in text.split("."):
        name, colon, argument = part.partition(":")
        if name not in FLAGS or name in found:
            raise InvalidValue(words=tuple(FLAGS))
        if colon and (name != "attachment" or not FILE_NAME.fullmatch(argument)):
            raise InvalidValue("attachment:name with 1-100 of A-Z a-z 0-9 _ -; other flags take no argument")
        found[name] = argument
    if "tile" in found:
        raise NotInThisBuild("fl: tile belongs to layers, which are not in this build", argument="fl", value="tile")
    return found
