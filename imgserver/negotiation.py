"""What a request's headers decide about a picture: the format of `auto`, and its quality under Save-Data.

Accept is reduced to one of three choices and never kept as text. `*/*` and `image/*` offer nothing new: every client
sends them, whatever it can show. Of q-values only refusals (`q=0`) and a preference of webp over avif count.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from imgserver.plan import Output, Plan

Offers = tuple[()] | tuple[Literal["webp"]] | tuple[Literal["avif"], Literal["webp"]]

# RFC 9110 12.4.2: at most three decimals, at most 1.
WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
PARAMETER = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
CHOSEN = ("image/avif", "image/webp")


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
        name, *parameters = PARAMETER.findall(member.strip())
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
