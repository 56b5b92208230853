"""A ladder of sizes: strangers ask for any number, and get one of few.

    a side alone       up to the next rung; beyond the last one, the last
    a box              its longer side likewise; the shorter keeps the shape, to the nearest 1/48 of the longer
    a shape alone      to the nearest 1/48, too: 1:1, 2:1, 3:2, 4:3, 16:9 and their likes stay exact
    a share            up to the next twentieth
    quality, by number up to the next multiple of 5
    dpr                up to the next of 1, 1.5, 2, 3, 4

What a picture is cut from, where, and what is done to it stays as asked: these are not sizes.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

from imgserver.plan.plan import Crop, Fit, Length, Number, Output, Plan, Px, Rel, Step

# The fewest parts of which 3:2, 4:3 and 16:9 are whole numbers.
SHAPES = 48
SHARES = 20
QUALITY_STEP = 5
RATIOS = (Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3), Fraction(4))


@dataclass(frozen=True, slots=True)
class SizeSnapping:
    """`rungs` ascend, in pixels; without any, everything stays as asked."""

    rungs: tuple[int, ...] = ()

    def ratio(self, asked: Fraction) -> Fraction:
        """A screen's pixel ratio. To be asked before it is folded into the plan."""
        return next((ratio for ratio in RATIOS if ratio >= asked), RATIOS[-1]) if self.rungs else asked

    def snap(self, plan: Plan) -> Plan:
        """The plan with few sizes, its pixel ratio folded in. Idempotent."""
        if not self.rungs:
            return plan
        return replace(plan, steps=tuple(map(self._step, plan.steps)), output=_output(plan.output))

    def _step(self, step: Step) -> Step:
        if isinstance(step, Fit):
            return self._fit(step)
        if isinstance(step, Crop) and step.ratio is not None and step.width is None and step.height is None:
            return replace(step, ratio=_shape(step.ratio))
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
        return replace(step, width=width, height=height, ratio=None if ratio is None else _shape(ratio))

    def _box(self, width: Number, height: Number) -> tuple[Px, Px]:
        longer = self._rung(max(width, height))
        shorter = _plain(longer * _part(Fraction(min(width, height)) / max(width, height)))
        return (Px(longer), Px(shorter)) if width >= height else (Px(shorter), Px(longer))

    def _side(self, side: Length | None) -> Length | None:
        if isinstance(side, Px):
            return Px(self._rung(side.value))
        return Rel(Fraction(ceil(side.share * SHARES), SHARES)) if side is not None else None

    def _rung(self, length: Number) -> int:
        return self.rungs[min(bisect_left(self.rungs, length), len(self.rungs) - 1)]


def _part(share: Fraction) -> Fraction:
    """The shorter side as a share of the longer: never nothing, however thin."""
    return Fraction(max(1, floor(share * SHAPES + Fraction(1, 2))), SHAPES)


def _shape(ratio: Fraction) -> Fraction:
    return 1 / _part(1 / ratio) if ratio >= 1 else _part(ratio)


def _plain(number: Fraction) -> Number:
    return int(number) if number.denominator == 1 else number


def _output(output: Output) -> Output:
    if not isinstance(output.quality, int):
        return output
    return replace(output, quality=-(-output.quality // QUALITY_STEP) * QUALITY_STEP)
