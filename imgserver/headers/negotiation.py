"""Content negotiation: the request headers decide the format of `f_auto`, its quality under Save-Data, and the values
of `w_auto` and `dpr_auto`.

Accept is reduced to one of three values and never stored as text. `*/*` and `image/*` offer no format: every client
sends them, whatever it supports. Of the q-values, only a refusal (`q=0`) and a preference of webp over avif matter.

Client hints are read only if the URL uses them, and every number is rounded up to a step of a short list. So a URL has
few variants, whatever clients send.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Literal, TypeVar

from multidict import MultiMapping

from imgserver.headers.field_lines import combined
from imgserver.plan.plan import Hint, ImageRequest, Output, Plan

T = TypeVar("T", int, Fraction)

Offers = tuple[()] | tuple[Literal["webp"]] | tuple[Literal["avif"], Literal["webp"]]

# RFC 9110 12.4.2: at most three decimals, at most 1.
WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
PARAMETER = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
CHOSEN = ("image/avif", "image/webp")

# The header fields of each hint, the current one before that of older browsers.
HINT_FIELDS: dict[Hint, tuple[str, ...]] = {
    "width": ("Sec-CH-Width", "Width"),
    "pixel_ratio": ("Sec-CH-DPR", "DPR"),
    "save_data": ("Save-Data",),
}
EVERY_HINT: tuple[Hint, ...] = tuple(HINT_FIELDS)
WIDTHS = (160, 320, 480, 640, 800, 960, 1280, 1600, 1920, 2560, 3840)
RATIOS = (Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3))
# For clients that send no hint.
USUAL_WIDTH = 1280
USUAL_RATIO = Fraction(1)
_NUMBER = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Hints:
    """Client hints, rounded to few distinct values. None: the client sent no such hint."""

    width: int | None = None
    pixel_ratio: Fraction | None = None
    save_data: bool = False


NO_HINTS = Hints()


def offers(accept: str | None) -> Offers:
    """The modern formats that the client supports, best first: none, webp, or avif and webp. Malformed members are
    skipped.

    A client that names avif supports webp as well. If it refuses webp, it gets the formats that every client supports.
    """
    if accept is None or accept == "*/*":
        return ()
    return _offers(accept) if len(accept) <= MAX_CACHED_CHARACTERS else _parse_offers(accept)


def negotiate(output: Output, offers: tuple[str, ...], *, save_data: bool = False) -> Output:
    """`output` without anything that depends on a header. An explicit format or quality is unchanged."""
    chosen = offers if output.format == "auto" else ()
    quality = output.quality
    if quality == "auto":
        quality = "eco" if save_data else "good"
    return replace(output, offers=chosen, quality=quality)


def is_negotiated(plan: Plan) -> bool:
    """Whether every response to a URL with this plan needs `Vary: Accept`, errors and 304 included."""
    return plan.output.format == "auto" and plan.terminal.kind == "image"


def vary(request: ImageRequest) -> str:
    """The value of Vary: exactly the fields on which the response to this URL depends; "" if there are none."""
    named = ["Accept"] if is_negotiated(request.plan) else []
    for hint in request.hints:
        named += HINT_FIELDS[hint]
    return ", ".join(named)


def read_hints(headers: MultiMapping[str], used: Sequence[Hint]) -> Hints:
    """The hints that a URL uses. A value that is not a number counts as not sent."""
    width = _hinted(headers, "width") if "width" in used else None
    ratio = _hinted(headers, "pixel_ratio") if "pixel_ratio" in used else None
    return Hints(
        width=None if width is None else _round_up(WIDTHS, width),
        pixel_ratio=None if ratio is None else _round_up(RATIOS, ratio),
        save_data="save_data" in used and (combined(headers, "Save-Data") or "").strip().lower() == "on",
    )


def variants(used: Sequence[Hint]) -> Iterator[Hints]:
    """Every result that `read_hints` can have: for a purge, which must reach all variants of a URL."""
    widths = (None, *WIDTHS) if "width" in used else (None,)
    ratios = (None, *RATIOS) if "pixel_ratio" in used else (None,)
    savings = (False, True) if "save_data" in used else (False,)
    return (Hints(*choice) for choice in product(widths, ratios, savings))


def _hinted(headers: MultiMapping[str], hint: Hint) -> Fraction | None:
    text = next(filter(None, (combined(headers, field) for field in HINT_FIELDS[hint])), "").strip()
    return Fraction(text) if _NUMBER.fullmatch(text) else None


def _round_up(steps: Sequence[T], number: Fraction) -> T:
    """The first step that is large enough, or the last one."""
    return steps[min(bisect_left(steps, number), len(steps) - 1)]


# Browsers send a handful of different fields. The bounds, on fields and characters, are for clients that make them up.
MAX_CACHED_CHARACTERS = 512


@lru_cache(maxsize=256)
def _offers(accept: str) -> Offers:
    return _parse_offers(accept)


def _parse_offers(accept: str) -> Offers:
    weights = _weights(accept)
    avif, webp = (weights.get(name) for name in CHOSEN)
    if avif and webp is None:
        webp = avif
    if not webp:
        return ()
    return ("avif", "webp") if avif and avif >= webp else ("webp",)


def _weights(accept: str) -> dict[str, float]:
    """The weights of the named formats. A refusal outweighs any other mention of its format."""
    weights: dict[str, float] = {}
    for member in MEMBER.findall(accept):
        # A member of spaces and semicolons has no name; lists may contain empty members (RFC 9110, 5.6.1).
        name, *parameters = PARAMETER.findall(member.strip()) or ("",)
        name = name.strip().lower()
        weight = _weight(parameters) if name in CHOSEN else None
        if weight is not None:
            weights[name] = min(weight, weights.get(name, 1.0))
    return weights


def _weight(parameters: list[str]) -> float | None:
    """The value of q; 1 without one; None when it is malformed."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return float(value) if WEIGHT.fullmatch(value := value.strip()) else None
    return 1.0
