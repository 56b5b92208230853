"""The option dpr: it multiplies the lengths in pixels of the first Fit and of all steps after it."""

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from imgserver.plan.plan import Anchor, Canvas, Crop, Fit, Kernel, Length, Mask, Number, Px, Step


def apply_pixel_ratio(steps: Iterable[Step], ratio: Fraction) -> tuple[Step, ...]:
    """The steps with the lengths multiplied. A focal point of the first Fit stays: it is a point of the original."""
    scaled: list[Step] = []
    has_fit = False
    for step in steps:
        if has_fit:
            scaled.append(_scale(step, ratio))
        elif isinstance(step, Fit):
            fit = _scale_fit(step, ratio)
            scaled.append(replace(fit, anchor=replace(fit.anchor, fx=step.anchor.fx, fy=step.anchor.fy)))
            has_fit = True
        else:
            scaled.append(step)
    return tuple(scaled)


def _scale(step: Step, ratio: Fraction) -> Step:
    match step:
        case Fit():
            return _scale_fit(step, ratio)
        case Crop():
            width, height = _scale_side(step.width, ratio), _scale_side(step.height, ratio)
            return replace(step, width=width, height=height, anchor=_scale_anchor(step.anchor, ratio))
        case Canvas():
            top, right, bottom, left = (_scale_length(margin, ratio) for margin in step.margins)
            return replace(step, margins=(top, right, bottom, left))
        case Mask():
            first, second, third, fourth = (_scale_number(radius, ratio) for radius in step.radii)
            return replace(step, radii=(first, second, third, fourth))
        case Kernel(name="blur" | "pixelate"):
            return replace(step, amount=_scale_number(step.amount, ratio))
    return step


def _scale_fit(step: Fit, ratio: Fraction) -> Fit:
    width, height = _scale_side(step.width, ratio), _scale_side(step.height, ratio)
    return replace(step, width=width, height=height, anchor=_scale_anchor(step.anchor, ratio))


def _scale_anchor(anchor: Anchor, ratio: Fraction) -> Anchor:
    fx, fy, dx, dy = (_scale_length(length, ratio) for length in (anchor.fx, anchor.fy, anchor.dx, anchor.dy))
    return Anchor(anchor.kind, fx, fy, dx, dy)


def _scale_side(side: Length | None, ratio: Fraction) -> Length | None:
    return None if side is None else _scale_length(side, ratio)


def _scale_length(length: Length, ratio: Fraction) -> Length:
    return Px(_scale_number(length.value, ratio)) if isinstance(length, Px) else length


def _scale_number(number: Number, ratio: Fraction) -> Number:
    product = number * ratio
    return int(product) if product.denominator == 1 else product
