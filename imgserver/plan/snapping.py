"""Snapping: public URLs can ask for any size, and get one of a few.

    one side           up to the next width of the list; beyond the last one, the last
    a box              its longer side likewise; the shorter side keeps the shape, to the nearest 1/48 of the longer
    a ratio alone      to the nearest 1/48 too: 1:1, 2:1, 3:2, 4:3, 16:9 and similar ratios stay exact
    a fraction         up to the next twentieth
    quality, a number  up to the next multiple of 5
    dpr                up to the next of 1, 1.5, 2, 3, 4

Anchors, offsets and effects are not snapped: they are not sizes.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

from imgserver.plan.plan import Crop, Fit, Length, Number, Output, Plan, Px, Rel, Step

# 1/48 is the largest unit in which 3:2, 4:3 and 16:9 are whole numbers.
RATIO_PARTS = 48
FRACTION_PARTS = 20
QUALITY_STEP = 5
RATIOS = (Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3), Fraction(4))


@dataclass(frozen=True, slots=True)
class SizeSnapping:
    """`widths` are in pixels, ascending, at least one."""

    widths: tuple[int, ...]

    def snap_pixel_ratio(self, ratio: Fraction) -> Fraction:
        """The pixel ratio to use. Call this before the ratio is applied to the lengths of a plan."""
        return next((known for known in RATIOS if known >= ratio), RATIOS[-1])

    def snap(self, plan: Plan) -> Plan:
        """The plan with snapped sizes and quality. Its pixel ratio must already be applied. Idempotent."""
        return replace(plan, steps=tuple(map(self._step, plan.steps)), output=_output(plan.output))

    def _step(self, step: Step) -> Step:
        if isinstance(step, Fit):
            return self._fit(step)
        if isinstance(step, Crop) and step.ratio is not None and step.width is None and step.height is None:
            return replace(step, ratio=_snap_ratio(step.ratio))
        return step

    def _fit(self, step: Fit) -> Fit:
        width, height, ratio = step.width, step.height, step.ratio
        if ratio is not None and isinstance(width, Px) and height is None:
            width, height, ratio = width, Px(width.value / ratio), None
        elif ratio is not None and isinstance(height, Px) and width is None:
            width, height, ratio = Px(height.value * ratio), height, None
        if isinstance(width, Px) and isinstance(height, Px):
            width, height = self._box(width.value, height.value)
        else:
            width, height = self._side(width), self._side(height)
        return replace(step, width=width, height=height, ratio=None if ratio is None else _snap_ratio(ratio))

    def _box(self, width: Number, height: Number) -> tuple[Px, Px]:
        longer = self._snap_length(max(width, height))
        shorter = _plain(longer * _snap_fraction(Fraction(min(width, height)) / max(width, height)))
        return (Px(longer), Px(shorter)) if width >= height else (Px(shorter), Px(longer))

    def _side(self, side: Length | None) -> Length | None:
        if isinstance(side, Px):
            return Px(self._snap_length(side.value))
        return Rel(Fraction(ceil(side.share * FRACTION_PARTS), FRACTION_PARTS)) if side is not None else None

    def _snap_length(self, length: Number) -> int:
        return self.widths[min(bisect_left(self.widths, length), len(self.widths) - 1)]


def _snap_fraction(share: Fraction) -> Fraction:
    """The shorter side as a fraction of the longer side, in units of 1/48 and at least one of them."""
    return Fraction(max(1, floor(share * RATIO_PARTS + Fraction(1, 2))), RATIO_PARTS)


def _snap_ratio(ratio: Fraction) -> Fraction:
    return 1 / _snap_fraction(1 / ratio) if ratio >= 1 else _snap_fraction(ratio)


def _plain(number: Fraction) -> Number:
    return int(number) if number.denominator == 1 else number


def _output(output: Output) -> Output:
    if not isinstance(output.quality, int):
        return output
    return replace(output, quality=-(-output.quality // QUALITY_STEP) * QUALITY_STEP)
