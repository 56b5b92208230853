"""Reading single values: exact numbers in one spelling, lengths, colors. Each raises Misread.

Python's own conversions take other scripts' digits, `1_0`, ` 1 `, `1e3` and `nan`; a pattern decides before them.
"""

import re
from fractions import Fraction

from imgserver.dialects.colors import read_color
from imgserver.dialects.native.messages import Misread
from imgserver.plan.plan import ZERO, Color, Length, Number, Px, Rel

WHOLE = re.compile(r"0|[1-9][0-9]{0,9}")
DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,9})\.[0-9]{1,4}")
# The widest a side can be; `max_side` bounds it further where the picture is scaled.
WIDEST = 65_535


def whole(text: str, low: int, high: int) -> int:
    if WHOLE.fullmatch(text):
        number = int(text)
        if low <= number <= high:
            return number
    raise Misread


def signed(text: str, limit: int) -> int:
    number = whole(text.removeprefix("-"), 0, limit)
    return -number if text.startswith("-") else number


def number(text: str, low: Fraction, high: Fraction) -> Number:
    """A whole number or one with up to four decimals, between `low` and `high`; may be negative if `low` is."""
    digits = text.removeprefix("-")
    value: Number
    if WHOLE.fullmatch(digits):
        value = int(digits)
    elif DECIMAL.fullmatch(digits):
        value = Fraction(digits)
    else:
        raise Misread
    if len(digits) < len(text):
        value = -value
    if not low <= value <= high:
        raise Misread
    return value


def side(text: str) -> Length:
    """Pixels; with a point, a share of the axis."""
    if WHOLE.fullmatch(text):
        return Px(whole(text, 1, WIDEST))
    return Rel(_share(text, Fraction(1, 10_000)))


def offset(text: str) -> Length:
    """Like a side, but of either sign, and nothing is allowed."""
    digits = text.removeprefix("-")
    sign = -1 if len(digits) < len(text) else 1
    if WHOLE.fullmatch(digits):
        return Px(sign * whole(digits, 0, WIDEST))
    share = _share(digits, Fraction(0))
    return Rel(sign * share) if share else ZERO


def _share(text: str, low: Fraction) -> Fraction:
    if DECIMAL.fullmatch(text):
        share = Fraction(text)
        if low <= share <= 1:
            return share
    raise Misread


def ratio(text: str) -> Fraction:
    """`16:9`, or the quotient."""
    if ":" in text:
        wide, _, high = text.partition(":")
        return Fraction(whole(wide, 1, 9999), whole(high, 1, 9999))
    return Fraction(number(text, Fraction(1, 100), Fraction(100)))


def color(text: str) -> Color:
    found = read_color(text)
    if found is None:
        raise Misread
    return found
