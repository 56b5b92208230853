"""The option table: the parser, the messages and the URL reference all come from these rows."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from imgserver.dialects.colors import COLORS
from imgserver.dialects.native import scalars
from imgserver.dialects.native.effects import EFFECTS, read_effect
from imgserver.dialects.native.messages import Misread
from imgserver.dialects.native.modes import FLAGS, GRAVITIES, MODES, read_flags
from imgserver.dialects.native.settings import NativeSettings
from imgserver.headers.negotiation import USUAL_RATIO, USUAL_WIDTH, Hints
from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import BLACK, Color, Level, Px, Terminal

COLOR_WORDS = "a CSS color name or 3, 4, 6 or 8 hex digits"
PLACEHOLDERS = ("info", "blurhash", "thumbhash", "lqip", "palette")
LEVELS: tuple[Level, ...] = ("best", "good", "eco", "low")
PRESET = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Option:
    """`read` makes a value of the decoded text or raises Misread. `allowed` may hold `{max_side}`.

    `scope`: of its segment, or of the whole URL, where the last one counts. `adds`: may be repeated in one segment.
    `later`: known, and refused until a build has it. `hinted` reads the value `auto`, where client hints are on.
    """

    key: str
    name: str
    allowed: str
    meaning: str
    read: Callable[[str], Any]
    scope: Literal["segment", "url"] = "segment"
    words: tuple[str, ...] = ()
    adds: bool = False
    later: str = ""
    hinted: Callable[[Hints, NativeSettings], Any] | None = None


def _word(rows: dict[str, Any] | tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in rows:
            raise Misread
        return text

    return read


def _zoom(text: str) -> Fraction:
    return Fraction(scalars.number(text, Fraction(1, 10), Fraction(10)))


def _pixel_ratio(text: str) -> Fraction:
    return Fraction(scalars.number(text, Fraction(1, 2), Fraction(4)))


def _hinted_width(hints: Hints, settings: NativeSettings) -> Px:
    return Px(min(hints.width or USUAL_WIDTH, settings.max_side))


def _hinted_ratio(hints: Hints, _: NativeSettings) -> Fraction:
    return hints.pixel_ratio or USUAL_RATIO


def _turns(text: str) -> tuple[str | int, ...]:
    """Motions in written order: `90.hflip`."""
    parts = text.split(".")
    turns = tuple(part if part in ("hflip", "vflip", "ignore") else scalars.signed(part, 360) for part in parts)
    # `a_9.5` would be two turns, and is meant as one: two in a row are never needed.
    if any(isinstance(one, int) and isinstance(other, int) for one, other in pairwise(turns)):
        raise Misread("whole degrees ±360, one number between flips")
    return turns


def _radii(text: str) -> tuple[int, int, int, int] | Literal["max"]:
    """One to four, as CSS counts corners: top left, top right, bottom right, bottom left."""
    if text == "max":
        return "max"
    radii = [scalars.whole(part, 0, 4096) for part in text.split(":")]
    if len(radii) > 4:
        raise Misread
    first, second = radii[0], radii[1] if len(radii) > 1 else radii[0]
    third = radii[2] if len(radii) > 2 else first
    return first, second, third, radii[3] if len(radii) > 3 else second


def _border(text: str) -> tuple[int, Color]:
    width, colon, color = text.partition(":")
    return scalars.whole(width, 1, 500), scalars.color(color) if colon else BLACK


def _background(text: str) -> Color | Literal["auto", "blur"]:
    if text == "auto":
        return "auto"
    return "blur" if text == "blurred" else scalars.color(text)


def _format(text: str) -> str | Terminal:
    """A format's name, or the terminal that takes the place of a picture."""
    name, colon, count = text.partition(":")
    if name == "palette":
        return Terminal("palette", scalars.whole(count, 1, 16) if colon else 5)
    match text:
        case "info" | "blurhash" | "thumbhash" | "lqip":
            return Terminal(text)
        case "jpeg":
            return "jpg"
    if text not in image_formats():
        raise Misread(_format_rule(), words=(*image_formats(), "jpeg", *PLACEHOLDERS))
    return text


def image_formats() -> tuple[str, ...]:
    """The values of `f` that stand for an image. JPEG XL is among them, so that the error says that it is not in this
    build."""
    return ("auto", "source", *(row.name for row in FORMATS.values() if row.writable or not row.readable))


def _format_rule() -> str:
    return "one of " + " ".join((*image_formats(), *PLACEHOLDERS)) + " (palette:1-16)"


def _quality(text: str) -> int | Level | Literal["auto"]:
    word, colon, level = text.partition(":")
    if word != "auto":
        return scalars.whole(text, 1, 100)
    if not colon:
        return "auto"
    for known in LEVELS:
        if level == known:
            return known
    raise Misread


def _preset(text: str) -> str:
    if not PRESET.fullmatch(text):
        raise Misread
    return text


def _refused(text: str) -> str:
    return text


_SIDE = "whole pixels 1-{max_side} or a share 0.0001-1.0 with a point"
_OFFSET = f"whole pixels ±{scalars.WIDEST} or a share ±1.0 with a point"

OPTIONS: dict[str, Option] = {
    row.key: row
    for row in (
        Option("w", "width", _SIDE, "width of the box", scalars.side, hinted=_hinted_width),
        Option("h", "height", _SIDE, "height of the box", scalars.side),
        Option(
            "ar",
            "aspect_ratio",
            "16:9 (each 1-9999) or a number 0.01-100",
            "gives the missing side; alone, cuts or pads to that shape without scaling",
            scalars.ratio,
        ),
        Option(
            "c",
            "crop",
            "one of " + " ".join(MODES),
            "how the picture meets the box; `limit` without it, with `ar` `rfill`",
            _word(MODES),
            words=tuple(MODES),
        ),
        Option(
            "g",
            "gravity",
            "one of " + " ".join(GRAVITIES),
            "what to keep where the mode cuts, where to put the picture where it pads; `center` without it",
            _word(GRAVITIES),
            words=GRAVITIES,
        ),
        Option(
            "x",
            "x_offset",
            _OFFSET,
            "inward from g's edge, right from the center; with `g_xy` the point",
            scalars.offset,
        ),
        Option(
            "y",
            "y_offset",
            _OFFSET,
            "inward from g's edge, down from the center; with `g_xy` the point",
            scalars.offset,
        ),
        Option("z", "zoom", "a number 0.1-10", "with `c_thumb`: 2 shows half the width, 0.5 twice", _zoom),
        Option(
            "a",
            "angle",
            "whole degrees ±360, hflip or vflip, joined by . in order; ignore",
            "turns clockwise and mirrors, after scaling; `ignore` (first segment) leaves out the EXIF orientation",
            _turns,
            words=("hflip", "vflip", "ignore"),
        ),
        Option(
            "e",
            "effect",
            "one of " + " ".join(EFFECTS),
            "effects, in written order; the table below",
            read_effect,
            words=tuple(EFFECTS),
            adds=True,
        ),
        Option("o", "opacity", "a whole number 0-100", "per cent", lambda text: scalars.whole(text, 0, 100)),
        Option(
            "r",
            "radius",
            "whole pixels 0-4096, one to four joined by :, or max",
            "rounds the corners (top left, top right, bottom right, bottom left); `max` is an ellipse",
            _radii,
            words=("max",),
        ),
        Option(
            "bo",
            "border",
            f"whole pixels 1-500, then :color ({COLOR_WORDS})",
            "a frame outside the picture; black without a color",
            _border,
        ),
        Option(
            "b",
            "background",
            f"{COLOR_WORDS}, transparent; in pad modes also auto, blurred",
            "fills padding and turned corners; a color also whatever is transparent",
            _background,
            words=("auto", "blurred", *COLORS),
        ),
        Option("l", "layer", "a picture or text", "draws over the picture", _refused, later="layers are"),
        Option("u", "underlay", "a picture", "draws under the picture", _refused, later="underlays are"),
        Option("co", "color", COLOR_WORDS, "color of a text layer", _refused, later="text layers are"),
        Option(
            "t",
            "preset",
            "1-64 of a-z, 0-9 and -",
            "options by the name the server has for them; alone in its segment",
            _preset,
        ),
        Option(
            "f",
            "format",
            _format_rule(),
            "the result's format (`auto`: the best the client shows; `jpeg` is `jpg`), or what is told instead of it",
            _format,
            "url",
        ),
        Option(
            "q",
            "quality",
            "a whole number 1-100, auto, auto:best, auto:good, auto:eco or auto:low",
            "given to the encoder as it is; png and gif have none; `auto:good` without it",
            _quality,
            "url",
            words=("auto", *(f"auto:{level}" for level in LEVELS)),
        ),
        Option(
            "dpr",
            "pixel_ratio",
            "a number 0.5-4",
            "multiplies pixel lengths of the first resize and all after it",
            _pixel_ratio,
            "url",
            hinted=_hinted_ratio,
        ),
        Option(
            "pg",
            "page",
            "a whole number 1-9999",
            "page or frame to read",
            lambda text: scalars.whole(text, 1, 9999),
            "url",
        ),
        Option(
            "fl",
            "flags",
            "flags joined by .: " + " ".join(FLAGS),
            "the table below",
            read_flags,
            "url",
            words=tuple(FLAGS),
            adds=True,
        ),
        Option(
            "exp",
            "expiry",
            "unix seconds",
            "signed URLs only: until when it is valid",
            lambda text: scalars.whole(text, 1, 10**10 - 1),
            "url",
        ),
    )
}
