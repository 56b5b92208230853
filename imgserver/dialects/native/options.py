"""The table of all options. The parser, the error messages and the URL reference use these rows."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from imgserver.dialects.colors import COLORS
from imgserver.dialects.native import scalars
from imgserver.dialects.native.effects import EFFECTS, read_effect
from imgserver.dialects.native.flags import FLAGS, read_flags
from imgserver.dialects.native.messages import InvalidValue
from imgserver.dialects.native.modes import GRAVITIES, MODES
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
    """`read` converts the decoded text to a value, or raises InvalidValue. `allowed` may contain `{max_side}`.

    `scope`: the option is for its segment, or for the whole URL, where the last one counts. `adds`: it may be repeated
    in one segment. `later`: it is known, but not in this build. `hinted` gives the value of `auto`, if client hints are
    on. `words` are known values, for the nearest one in error messages.
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
            raise InvalidValue
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
    """Motions in written order, such as `90.hflip`."""
    parts = text.split(".")
    turns = tuple(part if part in ("hflip", "vflip", "ignore") else scalars.signed(part, 360) for part in parts)
    # `a_9.5` would be two turns, but means one. Two turns in a row are never needed.
    if any(isinstance(one, int) and isinstance(other, int) for one, other in pairwise(turns)):
        raise InvalidValue("whole degrees ±360, one number between flips")
    return turns


def _radii(text: str) -> tuple[int, int, int, int] | Literal["max"]:
    """One to four radii, with the meaning that CSS gives them: top left, top right, bottom right, bottom left."""
    if text == "max":
        return "max"
    radii = [scalars.whole(part, 0, 4096) for part in text.split(":")]
    if len(radii) > 4:
        raise InvalidValue
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
    """The name of a format, or a terminal that replaces the image."""
    name, colon, count = text.partition(":")
    if name == "palette":
        return Terminal("palette", scalars.whole(count, 1, 16) if colon else 5)
    match text:
        case "info" | "blurhash" | "thumbhash" | "lqip":
            return Terminal(text)
        case "jpeg":
            return "jpg"
    if text not in image_formats():
        raise InvalidValue(_format_rule(), words=(*image_formats(), "jpeg", *PLACEHOLDERS))
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
    raise InvalidValue


def _preset(text: str) -> str:
    if not PRESET.fullmatch(text):
        raise InvalidValue
    return text


def _not_read(text: str) -> str:
    return text


_SIDE = "whole pixels 1-{max_side} or a fraction 0.0001-1.0, written with a decimal point"
_OFFSET = f"whole pixels ±{scalars.MAX_SIDE} or a fraction ±1.0, written with a decimal point"

OPTIONS: dict[str, Option] = {
    row.key: row
    for row in (
        Option("w", "width", _SIDE, "width of the box", scalars.side, hinted=_hinted_width),
        Option("h", "height", _SIDE, "height of the box", scalars.side),
        Option(
            "ar",
            "aspect_ratio",
            "16:9 (each 1-9999) or a number 0.01-100",
            "gives the missing side; alone, crops or pads to that ratio without scaling",
            scalars.ratio,
        ),
        Option(
            "c",
            "crop",
            "one of " + " ".join(MODES),
            "how the image is put into the box; the default is `limit`, with `ar` alone `rfill`",
            _word(MODES),
            words=tuple(MODES),
        ),
        Option(
            "g",
            "gravity",
            "one of " + " ".join(GRAVITIES),
            "what to keep if the mode crops, where to put the image if it pads; the default is `center`",
            _word(GRAVITIES),
            words=GRAVITIES,
        ),
        Option(
            "x",
            "x_offset",
            _OFFSET,
            "inward from the edge that g names, right from the center; with `g_xy` the point",
            scalars.offset,
        ),
        Option(
            "y",
            "y_offset",
            _OFFSET,
            "inward from the edge that g names, down from the center; with `g_xy` the point",
            scalars.offset,
        ),
        Option("z", "zoom", "a number 0.1-10", "with `c_thumb`: 2 shows half the width, 0.5 twice the width", _zoom),
        Option(
            "a",
            "angle",
            "whole degrees ±360, hflip or vflip, joined by . in order; ignore",
            "turns clockwise and mirrors, after scaling; `ignore` (first segment) does not apply the EXIF orientation",
            _turns,
            words=("hflip", "vflip", "ignore"),
        ),
        Option(
            "e",
            "effect",
            "one of " + " ".join(EFFECTS),
            "effects, in written order: see the table below",
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
            "a frame outside the image; black by default",
            _border,
        ),
        Option(
            "b",
            "background",
            f"{COLOR_WORDS}, transparent; in pad modes also auto, blurred",
            "fills padding and the corners of a turned image; a color also lies under what is transparent",
            _background,
            words=("auto", "blurred", *COLORS),
        ),
        Option("l", "layer", "an image or text", "draws over the image", _not_read, later="layers are"),
        Option("u", "underlay", "an image", "draws under the image", _not_read, later="underlays are"),
        Option("co", "color", COLOR_WORDS, "color of a text layer", _not_read, later="text layers are"),
        Option(
            "t",
            "preset",
            "1-64 of a-z, 0-9 and -",
            "the options that have this name on the server; alone in its segment",
            _preset,
        ),
        Option(
            "f",
            "format",
            _format_rule(),
            "format of the result (`auto`: the best that the client shows; `jpeg` is `jpg`), or data about the image",
            _format,
            "url",
        ),
        Option(
            "q",
            "quality",
            "a whole number 1-100, auto, auto:best, auto:good, auto:eco or auto:low",
            "passed to the encoder unchanged; png and gif have none; the default is `auto:good`",
            _quality,
            "url",
            words=("auto", *(f"auto:{level}" for level in LEVELS)),
        ),
        Option(
            "dpr",
            "pixel_ratio",
            "a number 0.5-4",
            "multiplies lengths in pixels of the first resize and of all later steps",
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
            "see the table below",
            read_flags,
            "url",
            words=tuple(FLAGS),
            adds=True,
        ),
        Option(
            "exp",
            "expiry",
            "unix seconds",
            "signed URLs only: when the URL expires",
            lambda text: scalars.whole(text, 1, 10**10 - 1),
            "url",
        ),
    )
}
