"""Reading one segment: its options as typed values, and the refusals of those that cannot stand there."""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from imgserver.dialects.native.lexer import OPTION_SHAPED, Segment, Undecodable, decode
from imgserver.dialects.native.messages import Misread, Written, bad_rule, bad_value, nearest
from imgserver.dialects.native.modes import Flags
from imgserver.dialects.native.options import OPTIONS, Option
from imgserver.dialects.native.settings import NativeSettings
from imgserver.errors import BadOption, NotInThisBuild
from imgserver.headers.negotiation import Hints
from imgserver.plan.plan import Color, Length, Level, Step, Terminal

KEYS_BY_NAME = {row.name: key for key, row in OPTIONS.items()} | {key: key for key in OPTIONS}
NAMES = tuple(KEYS_BY_NAME)
# Looking for near words takes 0.1 ms each, and every URL may bring some.
MOST_MEANT = 4


@dataclass(frozen=True, slots=True)
class Wish:
    """One segment's options by their long names; None where an option is not written. `written` is by key."""

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
    written: dict[str, Written] = field(default_factory=dict)

    @property
    def has_side(self) -> bool:
        return self.width is not None or self.height is not None or self.aspect_ratio is not None


def read(segment: Segment, settings: NativeSettings, hints: Hints | None = None) -> Wish:
    """Each option by itself; `hints` are what `auto` means, None where client hints are off.

    Raises BadOption, and NotInThisBuild for options of later builds.
    """
    values: dict[str, Any] = {}
    written: dict[str, Written] = {}
    at = segment.at
    for part in segment.text.split(","):
        row, option = _option(part, at, segment.text)
        if row.key in written and not row.adds:
            raise bad_rule(option, "written twice in one segment")
        value = _value(row, option, settings, hints)
        if row.adds:
            value = _added(values.get(row.name), value, option)
        values[row.name] = value
        written[row.key] = option
        at += 0 if segment.preset else len(part) + 1
    return Wish(**values, written=written)


def _option(part: str, at: int, segment: str) -> tuple[Option, Written]:
    key, underscore, raw = part.partition("_")
    row = OPTIONS.get(key) if underscore else None
    if row is None:
        raise _unknown(part, at, segment)
    if row.later:
        raise NotInThisBuild(f"{key}: {row.later} not in this build", argument=key, value=raw, at=at)
    try:
        return row, Written(key, decode(raw), part, at)
    except Undecodable as error:
        raise bad_rule(Written(key, raw, part, at), str(error)) from None


def is_auto(wish: Wish, key: str) -> bool:
    """Whether this option is left to the client."""
    return key in wish.written and wish.written[key].text == "auto"


def _value(row: Option, option: Written, settings: NativeSettings, hints: Hints | None) -> Any:
    if row.hinted is not None and option.text == "auto":
        if hints is None:
            raise bad_rule(option, "auto is for client hints, which are off here")
        return row.hinted(hints, settings)
    try:
        return row.read(option.text)
    except Misread as misread:
        allowed = misread.allowed or row.allowed.format(max_side=settings.max_side)
        raise bad_value(option, allowed, words=misread.words or row.words, hint=_folder_hint(option)) from None


def _added(before: Any, value: Any, option: Written) -> Any:
    """`e_` and `fl_` add up in written order."""
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
    shaped = next(other for other in segment.split(",") if OPTION_SHAPED.match(other))
    near = KEYS_BY_NAME.get(nearest(key, NAMES) or "")
    tail = f"; nearest: {near} ({OPTIONS[near].name})" if near else ""
    facts = {"nearest": near} if near else {}
    return BadOption(f'no option "{key}" beside {shaped}{tail}', argument=key, value=text, at=at, **facts)


def _folder_hint(option: Written) -> str:
    """A folder such as w_archive, at the head of a source, is the likely meaning of a value that is all letters."""
    return f"; if {option.raw} is a folder, write `_/` before it" if option.text.isalpha() else ""


@lru_cache(maxsize=256)
def meant(folder: str) -> str | None:
    """The options a folder's name was perhaps meant as: `w_800` for `width_800`; None if it reads like none."""
    parts = folder.split(",")
    if len(parts) > MOST_MEANT:
        return None
    known = [option for option in map(_meant, parts) if option is not None]
    return ",".join(known) if len(known) == len(parts) else None


def _meant(part: str) -> str | None:
    name, _, text = part.rpartition("_")
    key = KEYS_BY_NAME.get(nearest(name, NAMES) or "") if name else None
    if key is None or OPTIONS[key].later:
        return None
    try:
        OPTIONS[key].read(decode(text))
    except (Misread, Undecodable, NotInThisBuild):
        return None
    return f"{key}_{text}"
