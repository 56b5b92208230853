"""Crop modes, the values of `c`: one row each."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from imgserver.dialects.native.messages import Misread
from imgserver.errors import NotInThisBuild
from imgserver.plan.plan import Compass, Smart


@dataclass(frozen=True, slots=True)
class Mode:
    """`wants` tells which sides: `one` or two, `box` (two of w, h, ar, or ar alone), `two`."""

    name: str
    meaning: str
    wants: Literal["one", "box", "two"] = "one"
    mode: Literal["contain", "cover", "exact"] = "contain"
    enlarge: Literal["deny", "allow", "shrink_box"] = "allow"
    finish: Literal["none", "crop", "pad"] = "none"
    shrink: bool = True

    @property
    def cuts(self) -> bool:
        return self.finish == "crop" or self.name in ("crop", "thumb")

    @property
    def pads(self) -> bool:
        return self.finish == "pad"


MODES: dict[str, Mode] = {
    row.name: row
    for row in (
        Mode("limit", "inside the box, never enlarged", enlarge="deny"),
        Mode("fit", "inside the box, enlarged if need be"),
        Mode("mfit", "inside the box, enlarged but never made smaller", shrink=False),
        Mode("scale", "exactly the box, distorted; one side alone keeps the proportion", mode="exact"),
        Mode("fill", "covers the box, the rest cut off; enlarged if need be", "box", "cover", finish="crop"),
        Mode("lfill", "covers the box without enlarging; may be smaller than the box", "box", "cover", "deny", "crop"),
        Mode(
            "rfill",
            "covers a box of that shape, as large as the picture can fill",
            "box",
            "cover",
            "shrink_box",
            "crop",
        ),
        Mode("pad", "inside the box, the rest padded; enlarged if need be", "box", finish="pad"),
        Mode("lpad", "inside the box without enlarging, the rest padded", "box", enlarge="deny", finish="pad"),
        Mode("mpad", "never made smaller, the rest padded", "box", finish="pad", shrink=False),
        Mode(
            "rpad",
            "a box of that shape, as large as the picture reaches, padded",
            "box",
            enlarge="shrink_box",
            finish="pad",
        ),
        Mode("crop", "a piece of that size, not scaled"),
        Mode("thumb", "the largest piece of that shape round the anchor, divided by z, then scaled to the box", "two"),
    )
}

COMPASS: tuple[Compass, ...] = get_args(Compass)
SMART: dict[str, Smart] = {"auto": "attention", "auto:entropy": "entropy"}
FACES = ("face", "face:auto")
GRAVITIES = (*COMPASS, *SMART, *FACES, "xy")


# Flags, the values of `fl`: one row each.

FLAGS: dict[str, str] = {
    "attachment": "download instead of display; `attachment:holiday` names the file, the format's suffix is added",
    "animated": "keep every frame, also where it is not the default",
    "still": "the first frame only",
    "lossless": "webp and avif without loss",
    "progressive": "jpg, png and gif in passes",
    "keep_metadata": "keep EXIF, XMP and IPTC, without the place (GPS); the orientation is reset",
    "keep_copyright": "keep the copyright and author fields",
    "keep_profile": "keep colors and profile as they are",
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
