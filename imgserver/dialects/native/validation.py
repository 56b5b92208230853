"""Which options can stand together. No option is ignored silently: one that could have no effect is refused."""

from collections.abc import Iterable

from imgserver.dialects.native.messages import bad_rule, bad_value
from imgserver.dialects.native.modes import COMPASS, FACES, MODES, SMART, Mode
from imgserver.dialects.native.options import OPTIONS
from imgserver.dialects.native.segment import Wish, is_auto
from imgserver.dialects.native.settings import NativeSettings
from imgserver.errors import NotInThisBuild
from imgserver.plan.plan import Px, Rel


def mode_of(wish: Wish) -> Mode:
    if wish.crop is not None:
        return MODES[wish.crop]
    return MODES["limit" if wish.aspect_ratio is None else "rfill"]


def check(wish: Wish, settings: NativeSettings, *, first: bool) -> None:
    """Raises BadOption, and NotInThisBuild where a face would be looked for. `first`: the URL's first segment."""
    mode = mode_of(wish)
    _check_sides(wish, mode)
    _check_lengths(wish, mode, settings)
    _check_zoom(wish, mode)
    _check_place(wish, mode)
    _check_faces(wish, mode)
    _check_angle(wish, first)
    if isinstance(wish.background, str) and not (mode.pads and wish.has_side):
        raise bad_rule(wish.written["b"], f"{wish.written['b'].text} is for the pad modes: pad lpad mpad rpad")


def check_hinted_width(wishes: Iterable[Wish], whole_url: Wish) -> None:
    """The width that a client hints at is in its screen's own pixels: a pixel ratio would count them twice."""
    if "dpr" in whole_url.written and any(is_auto(wish, "w") for wish in wishes):
        raise bad_rule(whole_url.written["dpr"], "w_auto already counts the pixels of the client's screen")


def _check_sides(wish: Wish, mode: Mode) -> None:
    width, height, ratio = wish.width, wish.height, wish.aspect_ratio
    count = sum(side is not None for side in (width, height, ratio))
    if count == 3:
        raise bad_rule(wish.written["ar"], "w and h already give the shape; two of w, h and ar are enough")
    alone = count == 1 and ratio is not None
    if wish.crop is None:
        return
    option = wish.written["c"]
    if count == 0:
        raise bad_rule(option, f"{mode.name} needs a side: w, h or ar")
    if mode.wants == "two" and count < 2:
        raise bad_rule(option, f"{mode.name} wants two of w, h and ar", allowed="two of w, h and ar")
    if mode.wants == "box" and count < 2 and not alone:
        allowed = "two of w, h and ar, or ar alone"
        raise bad_rule(option, f"{mode.name} wants {allowed}", allowed=allowed)
    if mode.wants == "one" and alone and mode.name != "crop":
        raise bad_rule(option, f"{mode.name} wants w or h beside ar", allowed="w or h")


def _check_lengths(wish: Wish, mode: Mode, settings: NativeSettings) -> None:
    for key, side in (("w", wish.width), ("h", wish.height)):
        if mode.name == "thumb" and isinstance(side, Rel):
            raise bad_rule(wish.written[key], "thumb wants whole pixels: a share has no shape of its own")
        if mode.name != "crop" and isinstance(side, Px) and side.value > settings.max_side:
            raise bad_value(wish.written[key], OPTIONS[key].allowed.format(max_side=settings.max_side))


def _check_zoom(wish: Wish, mode: Mode) -> None:
    if wish.zoom is not None and mode.name != "thumb":
        raise bad_rule(wish.written["z"], "only with c_thumb")


def _check_place(wish: Wish, mode: Mode) -> None:
    placed = [option for key, option in wish.written.items() if key in ("g", "x", "y")]
    if not placed:
        return
    if not (wish.has_side and (mode.cuts or mode.pads)):
        where = f"c_{mode.name}" if wish.has_side else "a segment without a side"
        raise bad_rule(placed[0], f"{where} neither cuts nor pads, so there is nothing to place")
    if mode.pads and wish.gravity is not None and wish.gravity not in COMPASS:
        raise bad_rule(
            wish.written["g"],
            f"{wish.gravity} is for modes that cut; c_{mode.name} takes a compass word",
            allowed=" ".join(COMPASS),
        )
    if wish.gravity in SMART and (wish.x_offset or wish.y_offset):
        key = "x" if wish.x_offset else "y"
        raise bad_rule(wish.written[key], f"g_{wish.gravity} finds its own place; an offset needs a compass word")
    if wish.gravity == "xy":
        _check_point(wish)


def _check_point(wish: Wish) -> None:
    for key, length in (("x", wish.x_offset), ("y", wish.y_offset)):
        if length is None:
            raise bad_rule(wish.written["g"], f"xy needs x and y, the point to keep; {key} is missing")
        if (length.value if isinstance(length, Px) else length.share) < 0:
            raise bad_value(wish.written[key], "a point inside the picture: pixels from 0, or a share 0.0-1.0")


def _check_faces(wish: Wish, mode: Mode) -> None:
    if wish.gravity in FACES:
        option = wish.written["g"]
        raise NotInThisBuild(
            "g: this build finds no faces; g_auto finds what draws the eye",
            argument="g",
            value=option.text,
            at=option.at,
        )
    if mode.name == "thumb" and wish.gravity is None:
        option = wish.written["c"]
        raise NotInThisBuild(
            "c: thumb looks for a face unless g says otherwise, and this build finds none; try g_auto",
            argument="c",
            value=option.text,
            at=option.at,
        )


def _check_angle(wish: Wish, first: bool) -> None:
    if "ignore" not in wish.angle:
        return
    if not first:
        raise bad_rule(wish.written["a"], "ignore belongs to the first segment")
    if wish.angle.index("ignore") or wish.angle.count("ignore") > 1:
        raise bad_rule(wish.written["a"], "ignore comes first, and once")
