"""Reads single values: exact numbers in one notation, lengths, colors. All functions raise InvalidValue.

The conversions of Python also accept the digits of other scripts, `1_0`, ` 1 `, `1e3` and `nan`. So a pattern is
checked first.
"""

import re
from fractions import Fraction

from imgserver.dialects.colors import read_color
from imgserver.dialects.native.messages import InvalidValue
from imgserver.plan.plan import ZERO, Color, Length, Number, Px, Rel

WHOLE = re.compile(r"0|[1-9][0-9]{0,9}")
DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,9})\.[0-9]{1,4}")
# The largest side of any image. `max_side` is a lower limit for sides to which an image is scaled.
MAX_SIDE = 65_535


def whole(text: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`."""
    if WHOLE.fullmatch(text):
        number = int(text)
        if low <= number <= high:
            return number
    raise InvalidValue


def signed(text: str, limit: int) -> int:
    """A whole number from -`limit` to `limit`."""
    number = whole(text.removeprefix("-"), 0, limit)
    return -number if text.startswith("-") else number


def number(text: str, low: Fraction, high: Fraction) -> Number:
    """A number with up to four decimals, from `low` to `high`."""
    digits = text.removeprefix("-")
    value: Number
    if WHOLE.fullmatch(digits):
        value = int(digits)
    elif DECIMAL.fullmatch(digits):
        value = Fraction(digits)
    else:
        raise InvalidValue
    if len(digits) < len(text):
        value = -value
    if not low <= value <= high:
        raise InvalidValue
    return value


def side(text: str) -> Length:
    """A length of at least one pixel, or a fraction of the axis, written with a decimal point."""
    if WHOLE.fullmatch(text):
        return Px(whole(text, 1, MAX_SIDE))
    return Rel(_fraction(text, Fraction(1, 10_000)))


def offset(text: str) -> Length:
    """A length in pixels or a fraction of the axis, of either sign, or zero."""
    digits = text.removeprefix("-")
    sign = -1 if len(digits) < len(text) else 1
    if WHOLE.fullmatch(digits):
        return Px(sign * whole(digits, 0, MAX_SIDE))
    share = _fraction(digits, Fraction(0))
    return Rel(sign * share) if share else ZERO


def _fraction(text: str, low: Fraction) -> Fraction:
    if DECIMAL.fullmatch(text):
        share = Fraction(text)
        if low <= share <= 1:
            return share
    raise InvalidValue


def ratio(text: str) -> Fraction:
    """A ratio such as `16:9`, or its quotient."""
    if ":" in text:
        wide, _, high = text.partition(":")
        return Fraction(whole(wide, 1, 9999), whole(high, 1, 9999))
    return Fraction(number(text, Fraction(1, 100), Fraction(100)))


def color(text: str) -> Color:
    """A CSS color name, or 3, 4, 6 or 8 hex digits."""
    found = read_color(text)
    if found is None:
        raise InvalidValue
    return found
