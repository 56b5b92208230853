"""Degradation: what is left out of new pictures while many wait, so that fewer are refused. Pure rules.

What a URL says outright (its format, its sizes, its quality) stays. What is made is another picture with a key of its
own, kept and shared as such, and never in the place of the one that was asked for.

    above 0.5 of the wait that is bearable   AVIF in its quickest mode
    above 1                                  WebP in the place of AVIF, where the format was ours to choose
    above 1.5                                JPEG (PNG for transparency) there; no smart crop, no sharpening
"""

from dataclasses import replace
from enum import IntEnum

from imgserver.plan.plan import Anchor, Crop, Fit, Kernel, Output, Plan, Step


class DegradationLevel(IntEnum):
    """How far down; each includes those before it."""

    NONE = 0
    EFFORT = 1
    FORMAT = 2
    PLAIN = 3


# Shares of the bearable wait from which each rung holds; it is left again below RELIEF of that.
THRESHOLDS = {DegradationLevel.EFFORT: 0.5, DegradationLevel.FORMAT: 1.0, DegradationLevel.PLAIN: 1.5}
RELIEF = 0.7


class Degradation:
    """Remembers the rung, so that a wait around a threshold makes no answers flicker; counts what was cheapened."""

    def __init__(self) -> None:
        self.level = DegradationLevel.NONE
        self.counts = dict.fromkeys(THRESHOLDS, 0)

    def at(self, pressure: float) -> DegradationLevel:
        """The rung for a newcomer. `pressure`: its predicted wait as a share of the bearable one."""
        up = max(
            (level for level, threshold in THRESHOLDS.items() if pressure > threshold), default=DegradationLevel.NONE
        )
        held = max(
            (level for level, threshold in THRESHOLDS.items() if pressure > RELIEF * threshold),
            default=DegradationLevel.NONE,
        )
        self.level = max(up, min(self.level, held))
        return self.level


def degrade(plan: Plan, level: DegradationLevel) -> Plan:
    """A negotiated plan with what the rung leaves out; the same plan where there is nothing to leave out."""
    if level is DegradationLevel.NONE or plan.terminal.kind != "image":
        return plan
    steps = _plain(plan.steps) if level >= DegradationLevel.PLAIN else plan.steps
    return replace(plan, steps=steps, output=_written(plan.output, level))


def _written(output: Output, level: DegradationLevel) -> Output:
    if output.format == "auto" and level >= DegradationLevel.FORMAT:
        return replace(
            output, offers=tuple(name for name in output.offers if name == "webp" and level < DegradationLevel.PLAIN)
        )
    if "avif" in (output.format, *output.offers) and output.effort is None and not output.lossless:
        return replace(output, effort=0)
    return output


def _plain(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(_centered(step) for step in steps if not (isinstance(step, Kernel) and step.name == "sharpen"))


def _centered(step: Step) -> Step:
    """A smart crop looks at all of the picture; its size is the same without."""
    if isinstance(step, Fit | Crop) and step.anchor.is_smart:
        return replace(step, anchor=Anchor("center", dx=step.anchor.dx, dy=step.anchor.dy))
    return step
