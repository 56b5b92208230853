"""What a request's headers decide about a picture: the format of `auto`, its quality under Save-Data, and the numbers
that `w_auto` and `dpr_auto` stand for.

Accept is reduced to one of three choices and never kept as text. `*/*` and `image/*` offer nothing new: every client
sends them, whatever it can show. Of q-values only refusals (`q=0`) and a preference of webp over avif count.

Client hints are taken only where a URL asks for them, and every number is rounded up to a rung of a short ladder: so a
URL has few pictures, whatever clients send.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Literal, TypeVar

from imgserver.plan.plan import Hint, ImageRequest, Output, Plan

T = TypeVar("T", int, Fraction)

Offers = tuple[()] | tuple[Literal["webp"]] | tuple[Literal["avif"], Literal["webp"]]

# RFC 9110 12.4.2: at most three decimals, at most 1.
WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
PARAMETER = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
CHOSEN = ("image/avif", "image/webp")

# The fields of each hint, the one of today before that of older browsers.
HINT_FIELDS: dict[Hint, tuple[str, ...]] = {
    "width": ("Sec-CH-Width", "Width"),
    "pixel_ratio": ("Sec-CH-DPR", "DPR"),
    "save_data": ("Save-Data",),
}
EVERY_HINT: tuple[Hint, ...] = tuple(HINT_FIELDS)
WIDTHS = (160, 320, 480, 640, 800, 960, 1280, 1600, 1920, 2560, 3840)
RATIOS = (Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3))
# What clients that send no hint get.
USUAL_WIDTH = 1280
USUAL_RATIO = Fraction(1)
_NUMBER = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Hints:
    """What a client says about itself, in few distinct values; None is not a word about it."""

    width: int | None = None
    pixel_ratio: Fraction | None = None
    save_data: bool = False


NO_HINTS = Hints()


def offers(accept: str | None) -> Offers:
    """The modern formats this client shows, best first: none, webp, or avif and webp. Malformed members are skipped.

    Who names avif shows webp as well, unless it refuses it; then it gets what every client shows.
    """
    return _offers(accept) if accept and "image/" in accept.lower() else ()


def negotiate(output: Output, offers: tuple[str, ...], *, save_data: bool = False) -> Output:
    """`output` with nothing left in it that depends on a header. An explicit format or quality stays as it is."""
    chosen = offers if output.format == "auto" else ()
    quality = output.quality
    if quality == "auto":
        quality = "eco" if save_data else "good"
    return replace(output, offers=chosen, quality=quality)


def is_negotiated(plan: Plan) -> bool:
    """Whether `Vary: Accept` is due, on every answer of this plan's URL, errors and 304 included."""
    return plan.output.format == "auto" and plan.terminal.kind == "image"


def vary(request: ImageRequest) -> str:
    """Exactly the fields that can matter for this URL; "" where none does."""
    named = ["Accept"] if is_negotiated(request.plan) else []
    return ", ".join(named + hint_fields(request.hints))


def hint_fields(hints: Sequence[Hint]) -> list[str]:
    return [field for hint in hints for field in HINT_FIELDS[hint]]


def read_hints(headers: Mapping[str, str], asked: Sequence[Hint]) -> Hints:
    """The hints that a URL asks for. What is no number counts as not sent."""
    width = _hinted(headers, "width") if "width" in asked else None
    ratio = _hinted(headers, "pixel_ratio") if "pixel_ratio" in asked else None
    return Hints(
        width=None if width is None else _rung(WIDTHS, width),
        pixel_ratio=None if ratio is None else _rung(RATIOS, ratio),
        save_data="save_data" in asked and headers.get("Save-Data", "").strip().lower() == "on",
    )


def variants(asked: Sequence[Hint]) -> Iterator[Hints]:
    """Every answer that `read_hints` can give: for whoever must reach all pictures of a URL."""
    widths = (None, *WIDTHS) if "width" in asked else (None,)
    ratios = (None, *RATIOS) if "pixel_ratio" in asked else (None,)
    savings = (False, True) if "save_data" in asked else (False,)
    return (Hints(*choice) for choice in product(widths, ratios, savings))


def _hinted(headers: Mapping[str, str], hint: Hint) -> Fraction | None:
    text = next((headers[field].strip() for field in HINT_FIELDS[hint] if field in headers), "")
    return Fraction(text) if _NUMBER.fullmatch(text) else None


def _rung(ladder: Sequence[T], number: Fraction) -> T:
    """The first that is large enough, or the last."""
    return ladder[min(bisect_left(ladder, number), len(ladder) - 1)]


# Browsers send a handful of different fields; the bound holds against those who make them up.
@lru_cache(maxsize=256)
def _offers(accept: str) -> Offers:
    weights = _weights(accept)
    avif, webp = (weights.get(name) for name in CHOSEN)
    if avif and webp is None:
        webp = avif
    if not webp:
        return ()
    return ("avif", "webp") if avif and avif >= webp else ("webp",)


def _weights(accept: str) -> dict[str, float]:
    """Weights of the formats named; one refusal outdoes any other mention."""
    weights: dict[str, float] = {}
    for member in MEMBER.findall(accept):
        # A member of blanks and semicolons has no name; lists may hold empty members (RFC 9110, 5.6.1).
        name, *parameters = PARAMETER.findall(member.strip()) or ("",)
        name = name.strip().lower()
        weight = _weight(parameters) if name in CHOSEN else None
        if weight is not None:
            weights[name] = min(weight, weights.get(name, 1.0))
    return weights


def _weight(parameters: list[str]) -> float | None:
    """The value of q, 1 without one, None when it is malformed."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return float(value) if WEIGHT.fullmatch(value := value.strip()) else None
    return 1.0
