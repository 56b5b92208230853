"""Crop modes, the values of `c`, and gravities, the values of `g`: one row each."""

from dataclasses import dataclass
from typing import Literal, get_args

from imgserver.plan.plan import Compass, Smart


@dataclass(frozen=True, slots=True)
class Mode:
    """`meaning` completes "the result is" in the URL reference.

    `needs`: which sides the URL must give: `one` or two of w, h and ar; `box`: two of them, or ar alone; `two`.
    `mode`, `enlarge`, `finish` and `shrink` are the fields of the Fit.
    """

    name: str
    meaning: str
    needs: Literal["one", "box", "two"] = "one"
    mode: Literal["contain", "cover", "exact"] = "contain"
    enlarge: Literal["deny", "allow", "shrink_box"] = "allow"
    finish: Literal["none", "crop", "pad"] = "none"
    shrink: bool = True

    @property
    def crops(self) -> bool:
        return self.finish == "crop" or self.name in ("crop", "thumb")

    @property
    def pads(self) -> bool:
        return self.finish == "pad"


MODES: dict[str, Mode] = {
    row.name: row
    for row in (
        Mode("limit", "inside the box, never enlarged", enlarge="deny"),
        Mode("fit", "inside the box, enlarged if necessary"),
        Mode("mfit", "inside the box, enlarged but never made smaller", shrink=False),
        Mode("scale", "exactly the box, distorted; one side alone keeps the proportion", mode="exact"),
        Mode("fill", "the box filled, the rest cropped; enlarged if necessary", "box", "cover", finish="crop"),
        Mode("lfill", "the box filled without enlarging; may be smaller than the box", "box", "cover", "deny", "crop"),
        Mode(
            "rfill",
            "a filled box of that ratio, as large as the image allows",
            "box",
            "cover",
            "shrink_box",
            "crop",
        ),
        Mode("pad", "inside the box, the rest padded; enlarged if necessary", "box", finish="pad"),
        Mode("lpad", "inside the box without enlarging, the rest padded", "box", enlarge="deny", finish="pad"),
        Mode("mpad", "never made smaller, the rest padded", "box", finish="pad", shrink=False),
        Mode(
            "rpad",
            "a padded box of that ratio, as large as the image allows",
            "box",
            enlarge="shrink_box",
            finish="pad",
        ),
        Mode("crop", "a window of that size, not scaled"),
        Mode("thumb", "the largest window of that ratio at the anchor, divided by z, then scaled to the box", "two"),
    )
}

COMPASS: tuple[Compass, ...] = get_args(Compass)
SMART: dict[str, Smart] = {"auto": "attention", "auto:entropy": "entropy"}
FACES = ("face", "face:auto")
GRAVITIES = (*COMPASS, *SMART, *FACES, "xy")
