"""Crop modes, the values of `c`: one row each."""

from dataclasses import dataclass
from typing import Literal, get_args

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
