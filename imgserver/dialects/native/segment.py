"""Parses one segment: its options become typed values, and wrong ones errors."""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from imgserver.dialects.native.flags import Flags
from imgserver.dialects.native.lexer import OPTION_SHAPED, RawSegment, Undecodable, decode
from imgserver.dialects.native.messages import InvalidValue, WrittenOption, bad_rule, bad_value, nearest
from imgserver.dialects.native.options import OPTIONS, Option
from imgserver.dialects.native.settings import NativeSettings
from imgserver.errors import BadOption, NotInThisBuild
from imgserver.headers.negotiation import Hints
from imgserver.plan.plan import Color, Length, Level, Step, Terminal

KEYS_BY_NAME = {row.name: key for key, row in OPTIONS.items()} | {key: key for key in OPTIONS}
NAMES = tuple(KEYS_BY_NAME)
# The search for a similar word takes 0.1 ms, and a URL may contain many unknown words.
MAX_SUGGESTIONS = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """The options of one segment by their long names; None: the option is not written. `written` is by key."""

    width: Length | None = None
    height: Length | None = None
    aspect_ratio: Fraction | None = None
    crop: str | None = None
    gravity: str | None = None
    x_offset: Length | None = None
    y_offset: Length | None = None
    zoom: Fraction | None = None
    angle: tuple[str | int, ...] = ()
    effect: tuple[Step, ...] = ()
    opacity: int | None = None
    radius: tuple[int, int, int, int] | Literal["max"] | None = None
    border: tuple[int, Color] | None = None
    background: Color | Literal["auto", "blur"] | None = None
    format: str | Terminal | None = None
    quality: int | Level | Literal["auto"] | None = None
    pixel_ratio: Fraction | None = None
    page: int | None = None
    flags: Flags = field(default_factory=dict)
    expiry: int | None = None
    preset: str | None = None
    written: dict[str, WrittenOption] = field(default_factory=dict)

    @property
    def has_side(self) -> bool:
        return self.width is not None or self.height is not None or self.aspect_ratio is not None


def parse_segment(raw: RawSegment, settings: NativeSettings, hints: Hints | None = None) -> Segment:
    """Parses each option by itself. `hints` give the value of `auto`; None: client hints are off.

    Raises BadOption, and NotInThisBuild for options of later builds.
    """
    values: dict[str, Any] = {}
    written: dict[str, WrittenOption] = {}
    at = raw.at
    for part in raw.text.split(","):
        row, option = _option(part, at, raw.text)
        if row.key in written and not row.adds:
            raise bad_rule(option, "written twice in one segment")
        value = _value(row, option, settings, hints)
        if row.adds:
            value = _add(values.get(row.name), value, option)
        values[row.name] = value
        written[row.key] = option
        at += 0 if raw.preset else len(part) + 1
    return Segment(**values, written=written)


def _option(part: str, at: int, segment: str) -> tuple[Option, WrittenOption]:
    key, underscore, raw = part.partition("_")
    row = OPTIONS.get(key) if underscore else None
    if row is None:
        raise _unknown(part, at, segment)
    if row.later:
        raise NotInThisBuild(f"{key}: {row.later} not in this build", argument=key, value=raw, at=at)
    try:
        return row, WrittenOption(key, decode(raw), part, at)
    except Undecodable as error:
        raise bad_rule(WrittenOption(key, raw, part, at), str(error)) from None


def is_auto(segment: Segment, key: str) -> bool:
    """Whether the value of this option is `auto`."""
    return key in segment.written and segment.written[key].text == "auto"


def _value(row: Option, option: WrittenOption, settings: NativeSettings, hints: Hints | None) -> Any:
    if row.hinted is not None and option.text == "auto":
        if hints is None:
            raise bad_rule(option, "auto is for client hints, which are off here")
        return row.hinted(hints, settings)
    try:
        return row.read(option.text)
    except InvalidValue as invalid:
        allowed = invalid.allowed or row.allowed.format(max_side=settings.max_side)
        raise bad_value(option, allowed, words=invalid.words or row.words, hint=_folder_hint(option)) from None


def _add(before: Any, value: Any, option: WrittenOption) -> Any:
    """The values of several `e_` or `fl_` in one segment, in written order."""
    if option.key == "e":
        return (*(before or ()), value)
    twice = set(before or ()) & set(value)
    if twice:
        raise bad_rule(option, f"{min(twice)} is written twice in one segment")
    return {**(before or {}), **value}


def _unknown(part: str, at: int, segment: str) -> BadOption:
    key, underscore, text = part.partition("_")
    if underscore and len(key) == 1 and part == segment:
        sentence = f'no option "{key}"; if {part} is a folder, write `_/` before it'
        return BadOption(sentence, argument=key, value=text, at=at)
    neighbor = next(other for other in segment.split(",") if OPTION_SHAPED.match(other))
    near = KEYS_BY_NAME.get(nearest(key, NAMES) or "")
    tail = f"; nearest: {near} ({OPTIONS[near].name})" if near else ""
    facts = {"nearest": near} if near else {}
    return BadOption(f'no option "{key}" next to {neighbor}{tail}', argument=key, value=text, at=at, **facts)


def _folder_hint(option: WrittenOption) -> str:
    """A hint for a value of letters only: it may be a folder such as w_archive, at the beginning of a source path."""
    return f"; if {option.raw} is a folder, write `_/` before it" if option.text.isalpha() else ""


@lru_cache(maxsize=256)
def suggest_options(folder: str) -> str | None:
    """The options that the name of a folder may have been meant as: `w_800` for `width_800`; None: not similar to
    options."""
    parts = folder.split(",")
    if len(parts) > MAX_SUGGESTIONS:
        return None
    known = [option for option in map(_suggest_option, parts) if option is not None]
    return ",".join(known) if len(known) == len(parts) else None


def _suggest_option(part: str) -> str | None:
    name, _, text = part.rpartition("_")
    key = KEYS_BY_NAME.get(nearest(name, NAMES) or "") if name else None
    if key is None or OPTIONS[key].later:
        return None
    try:
        OPTIONS[key].read(decode(text))
    except (InvalidValue, Undecodable, NotInThisBuild):
        return None
    return f"{key}_{text}"
