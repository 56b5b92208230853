"""Which options go together. No option is ignored silently: one that would have no effect is an error."""

from collections.abc import Iterable

from imgserver.dialects.native.messages import bad_rule, bad_value
from imgserver.dialects.native.modes import COMPASS, FACES, MODES, SMART, Mode
from imgserver.dialects.native.options import OPTIONS
from imgserver.dialects.native.segment import Segment, is_auto
from imgserver.dialects.native.settings import NativeSettings
from imgserver.errors import NotInThisBuild
from imgserver.plan.plan import Px, Rel

# The options that say which part of the image is kept, or where it is placed on a canvas.
PLACEMENT = frozenset({"g", "x", "y"})


def mode_of(segment: Segment) -> Mode:
    """The crop mode; without `c` it is limit, and rfill with a ratio."""
    if segment.crop is not None:
        return MODES[segment.crop]
    return MODES["limit" if segment.aspect_ratio is None else "rfill"]


def check(segment: Segment, settings: NativeSettings, *, first: bool) -> None:
    """Raises BadOption, and NotInThisBuild for options that need face detection. `first`: this is the first segment."""
    mode = mode_of(segment)
    _check_sides(segment, mode)
    _check_lengths(segment, mode, settings)
    if segment.zoom is not None and mode.name != "thumb":
        raise bad_rule(segment.written["z"], "only with c_thumb")
    if not PLACEMENT.isdisjoint(segment.written):
        _check_placement(segment, mode)
    _check_faces(segment, mode)
    if "ignore" in segment.angle:
        _check_ignore(segment, first)
    if isinstance(segment.background, str) and not (mode.pads and segment.has_side):
        raise bad_rule(segment.written["b"], f"{segment.written['b'].text} is for the pad modes: pad lpad mpad rpad")


def check_hinted_width(segments: Iterable[Segment], whole_url: Segment) -> None:
    """The width in a client hint is in pixels of the screen: a pixel ratio would be applied twice."""
    if "dpr" in whole_url.written and any(is_auto(segment, "w") for segment in segments):
        raise bad_rule(whole_url.written["dpr"], "w_auto already counts the pixels of the client's screen")


def _check_sides(segment: Segment, mode: Mode) -> None:
    width, height, ratio = segment.width, segment.height, segment.aspect_ratio
    count = 3 - (width, height, ratio).count(None)
    if count == 3:
        raise bad_rule(segment.written["ar"], "w and h already give the shape; two of w, h and ar are enough")
    alone = count == 1 and ratio is not None
    if segment.crop is None:
        return
    option = segment.written["c"]
    if count == 0:
        raise bad_rule(option, f"{mode.name} needs a side: w, h or ar")
    if mode.needs == "two" and count < 2:
        raise bad_rule(option, f"{mode.name} needs two of w, h and ar", allowed="two of w, h and ar")
    if mode.needs == "box" and count < 2 and not alone:
        allowed = "two of w, h and ar, or ar alone"
        raise bad_rule(option, f"{mode.name} needs {allowed}", allowed=allowed)
    if mode.needs == "one" and alone and mode.name != "crop":
        raise bad_rule(option, f"{mode.name} needs w or h besides ar", allowed="w or h")


def _check_lengths(segment: Segment, mode: Mode, settings: NativeSettings) -> None:
    for key, side in (("w", segment.width), ("h", segment.height)):
        if mode.name == "thumb" and isinstance(side, Rel):
            raise bad_rule(segment.written[key], "thumb needs whole pixels: a fraction gives no ratio")
        if mode.name != "crop" and isinstance(side, Px) and side.value > settings.max_side:
            raise bad_value(segment.written[key], OPTIONS[key].allowed.format(max_side=settings.max_side))


def _check_placement(segment: Segment, mode: Mode) -> None:
    if not (segment.has_side and (mode.crops or mode.pads)):
        first = next(option for key, option in segment.written.items() if key in PLACEMENT)
        where = f"c_{mode.name}" if segment.has_side else "a segment without a side"
        raise bad_rule(first, f"{where} neither crops nor pads, so that g, x and y have no effect")
    if mode.pads and segment.gravity is not None and segment.gravity not in COMPASS:
        raise bad_rule(
            segment.written["g"],
            f"{segment.gravity} is for modes that crop; c_{mode.name} needs a compass point",
            allowed=" ".join(COMPASS),
        )
    if segment.gravity in SMART and (segment.x_offset or segment.y_offset):
        key = "x" if segment.x_offset else "y"
        raise bad_rule(segment.written[key], f"g_{segment.gravity} chooses the place; an offset needs a compass point")
    if segment.gravity == "xy":
        _check_point(segment)


def _check_point(segment: Segment) -> None:
    for key, length in (("x", segment.x_offset), ("y", segment.y_offset)):
        if length is None:
            raise bad_rule(segment.written["g"], f"xy needs x and y, the point to keep; {key} is missing")
        if (length.value if isinstance(length, Px) else length.share) < 0:
            raise bad_value(segment.written[key], "a point inside the image: pixels from 0, or a fraction 0.0-1.0")


def _check_faces(segment: Segment, mode: Mode) -> None:
    if segment.gravity in FACES:
        option = segment.written["g"]
        raise NotInThisBuild(
            "g: this build detects no faces; g_auto finds what draws the eye",
            argument="g",
            value=option.text,
            at=option.at,
        )
    if mode.name == "thumb" and segment.gravity is None:
        option = segment.written["c"]
        raise NotInThisBuild(
            "c: thumb without g needs face detection, which is not in this build; try g_auto",
            argument="c",
            value=option.text,
            at=option.at,
        )


def _check_ignore(segment: Segment, first: bool) -> None:
    if not first:
        raise bad_rule(segment.written["a"], "ignore is for the first segment only")
    if segment.angle.index("ignore") or segment.angle.count("ignore") > 1:
        raise bad_rule(segment.written["a"], "ignore must come first, and only once")
