"""Degradation: what is left out of new renditions while many requests wait, so that fewer are refused. Pure rules.

What the URL states (its format, its sizes, its quality) stays. A degraded rendition has its own key. It is cached and
shared under that key, and never stored under the key of the rendition that was requested.

    predicted wait / bearable wait
    above 0.5    AVIF with the lowest effort
    above 1      WebP instead of AVIF, where the server chooses the format
    above 1.5    JPEG there (PNG for transparency); no smart crop, no sharpening
"""

from dataclasses import replace
from enum import IntEnum

from imgserver.plan.plan import Anchor, Crop, Fit, Kernel, Output, Plan, Step
from imgserver.rendering.queue import Criticality


class DegradationLevel(IntEnum):
    """How much is left out; each level includes those below it."""

    NONE = 0
    EFFORT = 1
    FORMAT = 2
    PLAIN = 3


# Multiples of the bearable wait above which each level begins, ascending. A level ends below RELIEF times that.
THRESHOLDS = {DegradationLevel.EFFORT: 0.5, DegradationLevel.FORMAT: 1.0, DegradationLevel.PLAIN: 1.5}
RELIEF = 0.7


class Degradation:
    """The present level of each class, with hysteresis: a wait near a threshold does not make answers alternate.

    Each class has its own level, because each class has its own predicted wait: an URGENT request that waits for
    nothing must not end the degradation of NORMAL requests.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(THRESHOLDS, 0)
        """Degraded answers since the start, by level."""
        self._levels = dict.fromkeys(Criticality, DegradationLevel.NONE)

    def level(self, criticality: Criticality, pressure: float) -> DegradationLevel:
        """The level for a new request of this class. `pressure`: its predicted wait, in units of the bearable wait."""
        reached = not_left = DegradationLevel.NONE
        for level, threshold in THRESHOLDS.items():
            reached = level if pressure > threshold else reached
            not_left = level if pressure > RELIEF * threshold else not_left
        self._levels[criticality] = max(reached, min(self._levels[criticality], not_left))
        return self._levels[criticality]


def degrade(plan: Plan, level: DegradationLevel) -> Plan:
    """A negotiated plan without what the level leaves out; the same object if nothing is left out."""
    if level is DegradationLevel.NONE or plan.terminal.kind != "image":
        return plan
    steps = _plain_steps(plan.steps) if level >= DegradationLevel.PLAIN else plan.steps
    return replace(plan, steps=steps, output=_degraded_output(plan.output, level))


def _degraded_output(output: Output, level: DegradationLevel) -> Output:
    if output.format == "auto" and level >= DegradationLevel.FORMAT:
        keeps_webp = level < DegradationLevel.PLAIN and "webp" in output.offers
        return replace(output, offers=("webp",) if keeps_webp else ())
    if "avif" in (output.format, *output.offers) and output.effort is None and not output.lossless:
        return replace(output, effort=0)
    return output


def _plain_steps(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(_centered(step) for step in steps if not (isinstance(step, Kernel) and step.name == "sharpen"))


def _centered(step: Step) -> Step:
    """A smart crop reads the whole image. A centered crop has the same size."""
    if isinstance(step, Fit | Crop) and step.anchor.is_smart:
        return replace(step, anchor=Anchor("center", dx=step.anchor.dx, dy=step.anchor.dy))
    return step
