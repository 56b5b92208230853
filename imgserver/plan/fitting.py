"""Boxes and windows: the arithmetic of a Fit, of anchors, and the one rounding rule.

Numbers stay exact (`int`, `Fraction`) until `whole` rounds them; each quantity is rounded once.

A Fit, in order:

    W, H = the asked sides; a missing one from `ratio`, else from the picture's own proportion
    shrink_box:  k = min(1, iw/W, ih/H); the box shrinks and keeps its ratio
    the box is rounded
    scale: contain min(W/iw, H/ih) | cover max(W/iw, H/ih) | exact (W/iw, H/ih) | one side alone: its own, on both axes
    reject: an error if a scale is over 1 | deny: at most 1 | shrink=False: at least 1
    the scaled picture is rounded
    finish: crop to min(scaled, box), pad to max(scaled, box), on the axes that were asked for
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from imgserver.errors import BadRequest
from imgserver.plan.plan import Anchor, Fit, Length, Number, Px

HALF = Fraction(1, 2)
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Box:
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """The picture scaled, then its final size; `box` as in `geometry.Bound`."""

    scaled: Size
    size: Size
    box: Box | None = None


def whole(x: Number) -> int:
    """The nearest integer, halves away from zero."""
    return -math.floor(HALF - x) if x < 0 else math.floor(HALF + x)


def resolve(length: Length, axis: Number) -> Number:
    """A length in pixels, exact; a share is of `axis`."""
    return length.value if isinstance(length, Px) else length.share * axis


def at_least_one(x: Number) -> int:
    """A size: rounded, and never nothing."""
    return max(1, whole(x))


def fit(step: Fit, size: Size) -> Fitted:
    """A Fit on a picture of this size. Raises BadRequest if it would have to enlarge and may not."""
    box, asked = _asked_box(step, size)
    if box is None:
        return Fitted(size, size)
    scales = _scales(step, size, box)
    scaled = at_least_one(size[0] * scales[0]), at_least_one(size[1] * scales[1])
    after = _finished(step, scaled, box, asked)
    return Fitted(scaled, after, _place(step, size, scaled, after) if step.finish != "none" else None)


def _asked_box(step: Fit, size: Size) -> tuple[Size | None, tuple[bool, bool]]:
    """The rounded box, and which of its axes were asked for; no box if the step does nothing."""
    width, height = sides(step.width, step.height, step.ratio, size)
    if width is None and height is None:
        if step.ratio is None:
            return None, (False, False)
        width, height = shaped(size, step.ratio, inside=step.mode == "cover")
        return (at_least_one(width), at_least_one(height)), (True, True)
    asked = width is not None, height is not None
    # One of the two is there, so the other follows from the picture's own proportion.
    wide = width if width is not None else Fraction(height or 1) * size[0] / size[1]
    high = height if height is not None else Fraction(width or 1) * size[1] / size[0]
    if step.enlarge == "shrink_box":
        k = min(Fraction(1), Fraction(size[0]) / wide, Fraction(size[1]) / high)
        wide, high = k * wide, k * high
    return (at_least_one(wide), at_least_one(high)), asked


def sides(
    width: Length | None, height: Length | None, ratio: Fraction | None, size: Size
) -> tuple[Number | None, Number | None]:
    """The asked sides in exact pixels; `ratio` gives the missing one of two."""
    wide = None if width is None else resolve(width, size[0])
    high = None if height is None else resolve(height, size[1])
    if ratio is not None and wide is not None and high is None:
        high = wide / ratio
    elif ratio is not None and high is not None and wide is None:
        wide = high * ratio
    return wide, high


def shaped(size: Size, ratio: Fraction, *, inside: bool) -> tuple[Number, Number]:
    """The largest box of this ratio inside the picture, or the smallest around it."""
    pick = min if inside else max
    width = pick(Fraction(size[0]), size[1] * ratio)
    return width, width / ratio


def _scales(step: Fit, size: Size, box: Size) -> tuple[Fraction, Fraction]:
    if step.width is None and step.height is None:
        return Fraction(1), Fraction(1)
    sx, sy = Fraction(box[0], size[0]), Fraction(box[1], size[1])
    if step.ratio is None and step.height is None:
        sy = sx
    elif step.ratio is None and step.width is None:
        sx = sy
    elif step.mode != "exact":
        sx = sy = min(sx, sy) if step.mode == "contain" else max(sx, sy)
    if step.enlarge == "reject" and max(sx, sy) > 1:
        raise BadRequest(
            f"fit: {box[0]}×{box[1]} would enlarge the {size[0]}×{size[1]} picture",
            argument="fit",
            value=f"{box[0]}×{box[1]}",
            allowed=f"up to {size[0]}×{size[1]}",
        )
    if step.enlarge == "deny":
        sx, sy = min(sx, Fraction(1)), min(sy, Fraction(1))
    return (sx, sy) if step.shrink else (max(sx, Fraction(1)), max(sy, Fraction(1)))


def _finished(step: Fit, scaled: Size, box: Size, asked: tuple[bool, bool]) -> Size:
    if step.finish == "none":
        return scaled
    pick = min if step.finish == "crop" else max
    width, height = (pick(s, b) if a else s for s, b, a in zip(scaled, box, asked, strict=True))
    return width, height


def _place(step: Fit, size: Size, scaled: Size, after: Size) -> Box:
    """The window in the scaled picture (crop), or the scaled picture on the canvas (pad)."""
    inner, outer = (after, scaled) if step.finish == "crop" else (scaled, after)
    anchor = step.anchor if step.finish == "crop" or step.anchor.kind != "focal" else Anchor()
    starts = (
        start(anchor, axis, side=inner[axis], axis=outer[axis], share=focus(anchor, axis, size)) for axis in (0, 1)
    )
    left, top = (min(max(start, 0), outer[axis] - inner[axis]) for axis, start in enumerate(starts))
    return Box(left, top, *inner)


def focus(anchor: Anchor, axis: int, size: Size) -> Number:
    """The focal point as a share of the picture it was given on."""
    return Fraction(resolve((anchor.fx, anchor.fy)[axis], size[axis])) / size[axis]


def start(anchor: Anchor, index: int, *, side: int, axis: int, share: Number) -> int:
    """Where a window of `side` begins on an axis of this length; only a focal window is kept inside."""
    free = axis - side
    if anchor.kind == "focal":
        return min(max(whole(share * axis - Fraction(side, 2)), 0), max(free, 0))
    # A share of an offset is of the picture as it is when the window is laid on it.
    inward = whole(resolve((anchor.dx, anchor.dy)[index], axis))
    start, end = (("west", "east"), ("north", "south"))[index]
    if start in anchor.kind:
        return inward
    if end in anchor.kind:
        return free - inward
    return whole(Fraction(free, 2)) + inward
