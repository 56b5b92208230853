"""Folding dpr into a plan: it multiplies pixel lengths of the first Fit and of everything after it.

Pixels that measure the picture before any Fit, such as a crop box or a focal point on the original, stay.
"""

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from imgserver.plan.plan import Anchor, Canvas, Crop, Fit, Kernel, Length, Mask, Number, Px, Step


def fold(steps: Iterable[Step], ratio: Fraction) -> tuple[Step, ...]:
    folded: list[Step] = []
    fitted = False
    for step in steps:
        if fitted:
            folded.append(_scaled(step, ratio))
        elif isinstance(step, Fit):
            point = step.anchor.fx, step.anchor.fy
            scaled = _scaled_fit(step, ratio)
            folded.append(replace(scaled, anchor=replace(scaled.anchor, fx=point[0], fy=point[1])))
            fitted = True
        else:
            folded.append(step)
    return tuple(folded)


def _scaled(step: Step, ratio: Fraction) -> Step:
    match step:
        case Fit():
            return _scaled_fit(step, ratio)
        case Crop():
            width, height = _side(step.width, ratio), _side(step.height, ratio)
            return replace(step, width=width, height=height, anchor=_scaled_anchor(step.anchor, ratio))
        case Canvas():
            top, right, bottom, left = (_length(margin, ratio) for margin in step.margins)
            return replace(step, margins=(top, right, bottom, left))
        case Mask():
            first, second, third, fourth = (_number(radius, ratio) for radius in step.radii)
            return replace(step, radii=(first, second, third, fourth))
        case Kernel(name="blur" | "pixelate"):
            return replace(step, amount=_number(step.amount, ratio))
    return step


def _scaled_fit(step: Fit, ratio: Fraction) -> Fit:
    width, height = _side(step.width, ratio), _side(step.height, ratio)
    return replace(step, width=width, height=height, anchor=_scaled_anchor(step.anchor, ratio))


def _scaled_anchor(anchor: Anchor, ratio: Fraction) -> Anchor:
    fx, fy, dx, dy = (_length(length, ratio) for length in (anchor.fx, anchor.fy, anchor.dx, anchor.dy))
    return Anchor(anchor.kind, fx, fy, dx, dy)


def _side(side: Length | None, ratio: Fraction) -> Length | None:
    return None if side is None else _length(side, ratio)


def _length(length: Length, ratio: Fraction) -> Length:
    return Px(_number(length.value, ratio)) if isinstance(length, Px) else length


def _number(number: Number, ratio: Fraction) -> Number:
    product = number * ratio
    return int(product) if product.denominator == 1 else product
