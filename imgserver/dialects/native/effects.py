"""Effects, the values of `e`: one row each, with the step that it becomes."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from imgserver.dialects.colors import COLORS
from imgserver.dialects.native import scalars
from imgserver.dialects.native.messages import InvalidValue
from imgserver.plan.plan import Kernel, Number, Step, Tone, ToneName, Trim


@dataclass(frozen=True, slots=True)
class Effect:
    """The argument is from `low` to `high`; if both are 0, the effect has no argument. `default` None: the argument
    must be written. `whole`: it is a whole number. `build` makes the step from the argument.
    """

    name: str
    meaning: str
    build: Callable[[Number], Step]
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)
    default: Number | None = None
    whole: bool = False

    @property
    def argument(self) -> str:
        """The allowed argument in words."""
        if self.low == self.high:
            return "no argument"
        kind = "whole " if self.whole else ""
        low = "±" if self.low == -self.high else f"{_decimal(self.low)}-"
        optional = "" if self.default is None else f" (default {_decimal(Fraction(self.default))})"
        return f"{kind}{low}{_decimal(self.high)}{optional}"


def _decimal(number: Fraction) -> str:
    return str(int(number)) if number.denominator == 1 else str(float(number))


def _factor(name: ToneName) -> Callable[[Number], Step]:
    """A tone whose amount is a factor; the argument is the change in per cent."""
    return lambda n: Tone(name, 1 + Fraction(n, 100))


def _full(name: ToneName) -> Callable[[Number], Step]:
    """A tone at full strength."""
    return lambda _: Tone(name, Fraction(1))


HUNDRED = Fraction(100)
EFFECTS: dict[str, Effect] = {
    row.name: row
    for row in (
        Effect("blur", "Gaussian blur, sigma in px", lambda n: Kernel("blur", n), Fraction("0.3"), HUNDRED, 5),
        Effect("sharpen", "sharpening, by strength", lambda n: Kernel("sharpen", n), Fraction("0.1"), Fraction(10), 1),
        Effect(
            "pixelate",
            "square blocks with sides of so many px",
            lambda n: Kernel("pixelate", n),
            Fraction(2),
            Fraction(200),
            10,
            True,
        ),
        Effect("brightness", "per cent lighter or darker", _factor("brightness"), -HUNDRED, HUNDRED),
        Effect("contrast", "per cent more or less contrast", _factor("contrast"), -HUNDRED, HUNDRED),
        Effect("saturation", "per cent more or less color", _factor("saturation"), -HUNDRED, HUNDRED),
        Effect(
            "hue",
            "rotation of the color wheel in degrees",
            lambda n: Tone("hue", Fraction(n)),
            Fraction(-180),
            Fraction(180),
        ),
        Effect("gamma", "exponent", lambda n: Tone("gamma", Fraction(n)), Fraction("0.1"), Fraction(10)),
        Effect("grayscale", "no color", _full("grayscale")),
        Effect("sepia", "brown tint, per cent", lambda n: Tone("sepia", Fraction(n, 100)), Fraction(1), HUNDRED, 80),
        Effect("negate", "negative", _full("negate")),
        Effect(
            "trim",
            "cuts a border of one color, by tolerance; `:color` after it names it, by default that of the corner",
            lambda n: Trim(tolerance=int(n)),
            Fraction(0),
            Fraction(255),
            10,
            True,
        ),
    )
}


def read_effect(text: str) -> Step:
    """The step of a value such as `blur`, `blur:4` or `trim:12:fff`. Raises InvalidValue."""
    name, *arguments = text.split(":")
    row = EFFECTS.get(name)
    if row is None:
        raise InvalidValue("one of " + " ".join(EFFECTS), words=tuple(EFFECTS))
    if name == "trim" and len(arguments) == 2:
        return _trim_color(row, arguments)
    if row.low == row.high and not arguments:
        return row.build(1)
    if row.low == row.high or len(arguments) > 1 or (not arguments and row.default is None):
        raise _bad_argument(row)
    return row.build(_argument(row, *arguments))


def _argument(row: Effect, text: str | None = None) -> Number:
    if text is None:
        return 0 if row.default is None else row.default
    try:
        return (
            scalars.whole(text, int(row.low), int(row.high)) if row.whole else scalars.number(text, row.low, row.high)
        )
    except InvalidValue:
        raise _bad_argument(row) from None


def _trim_color(row: Effect, arguments: list[str]) -> Step:
    tolerance = int(_argument(row, arguments[0]))
    try:
        return Trim("color", scalars.color(arguments[1]), tolerance)
    except InvalidValue:
        raise InvalidValue("trim:0-255:color, a CSS name or 3, 4, 6 or 8 hex digits", words=tuple(COLORS)) from None


def _bad_argument(row: Effect) -> InvalidValue:
    return InvalidValue(f"{row.name} takes {row.argument}")
