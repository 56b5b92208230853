"""Boxes and windows: the arithmetic of a Fit and of anchors, and the one rounding rule.

Numbers stay exact (`int`, `Fraction`) until `whole` rounds them. Each quantity is rounded once.

A Fit of an image iw × ih, in order:

    W, H = the requested sides; a missing one comes from `ratio`, else from the proportion of the image
    shrink_box:  k = min(1, iw/W, ih/H); the box shrinks by k and keeps its ratio
    the box is rounded
    scale: contain min(W/iw, H/ih) | cover max(W/iw, H/ih) | exact (W/iw, H/ih) | one side: its scale, on both axes
    reject: an error if a scale is over 1 | deny: at most 1 | shrink=False: at least 1
    the scaled size is rounded
    finish: crop to min(scaled, box), pad to max(scaled, box), on the axes that were requested
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
    """The scaled size and the final size of an image; `box` is that of `geometry.Bound`."""

    scaled: Size
    size: Size
    box: Box | None = None


def whole(x: Number) -> int:
    """The nearest integer, halves away from zero."""
    return -math.floor(HALF - x) if x < 0 else math.floor(HALF + x)


def resolve(length: Length, axis: Number) -> Number:
    """A length in pixels, exact. `axis` is the length that a fraction refers to."""
    return length.value if isinstance(length, Px) else length.share * axis


def at_least_one(x: Number) -> int:
    """A side: rounded, and at least 1."""
    return max(1, whole(x))


def fit(step: Fit, size: Size) -> Fitted:
    """A Fit of an image of this size. Raises BadRequest if it would enlarge the image and must not."""
    box, requested = _requested_box(step, size)
    if box is None:
        return Fitted(size, size)
    scales = _scales(step, size, box)
    scaled = at_least_one(size[0] * scales[0]), at_least_one(size[1] * scales[1])
    after = _finished(step, scaled, box, requested)
    return Fitted(scaled, after, _place(step, size, scaled, after) if step.finish != "none" else None)


def _requested_box(step: Fit, size: Size) -> tuple[Size | None, tuple[bool, bool]]:
    """The rounded box, and which of its axes the step requests; no box if the step has no effect."""
    width, height = sides(step.width, step.height, step.ratio, size)
    if width is None and height is None:
        if step.ratio is None:
            return None, (False, False)
        width, height = shaped(size, step.ratio, inside=step.mode == "cover")
        return (at_least_one(width), at_least_one(height)), (True, True)
    requested = width is not None, height is not None
    # One of the two is given, so the other follows from the proportion of the image.
    wide = width if width is not None else Fraction(height or 1) * size[0] / size[1]
    high = height if height is not None else Fraction(width or 1) * size[1] / size[0]
    if step.enlarge == "shrink_box":
        k = min(Fraction(1), Fraction(size[0]) / wide, Fraction(size[1]) / high)
        wide, high = k * wide, k * high
    return (at_least_one(wide), at_least_one(high)), requested


def sides(
    width: Length | None, height: Length | None, ratio: Fraction | None, size: Size
) -> tuple[Number | None, Number | None]:
    """The requested sides in exact pixels. `ratio` gives one that is missing; None: not requested."""
    wide = None if width is None else resolve(width, size[0])
    high = None if height is None else resolve(height, size[1])
    if ratio is not None and wide is not None and high is None:
        high = wide / ratio
    elif ratio is not None and high is not None and wide is None:
        wide = high * ratio
    return wide, high


def shaped(size: Size, ratio: Fraction, *, inside: bool) -> tuple[Number, Number]:
    """The sides of the largest box of this ratio inside the image, or of the smallest box around it."""
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
            f"fit: {box[0]}×{box[1]} would enlarge the {size[0]}×{size[1]} image",
            argument="fit",
            value=f"{box[0]}×{box[1]}",
            allowed=f"up to {size[0]}×{size[1]}",
        )
    if step.enlarge == "deny":
        sx, sy = min(sx, Fraction(1)), min(sy, Fraction(1))
    return (sx, sy) if step.shrink else (max(sx, Fraction(1)), max(sy, Fraction(1)))


def _finished(step: Fit, scaled: Size, box: Size, requested: tuple[bool, bool]) -> Size:
    """The size after the crop or the padding."""
    if step.finish == "none":
        return scaled
    pick = min if step.finish == "crop" else max
    width, height = (pick(s, b) if a else s for s, b, a in zip(scaled, box, requested, strict=True))
    return width, height


def _place(step: Fit, size: Size, scaled: Size, after: Size) -> Box:
    """The window in the scaled image (crop), or the place of the scaled image on the canvas (pad)."""
    inner, outer = (after, scaled) if step.finish == "crop" else (scaled, after)
    anchor = step.anchor if step.finish == "crop" or step.anchor.kind != "focal" else Anchor()
    starts = (
        start(anchor, axis, side=inner[axis], axis=outer[axis], share=focus(anchor, axis, size)) for axis in (0, 1)
    )
    left, top = (min(max(start, 0), outer[axis] - inner[axis]) for axis, start in enumerate(starts))
    return Box(left, top, *inner)


def focus(anchor: Anchor, axis: int, size: Size) -> Number:
    """The focal point as a fraction of the image of this size."""
    return Fraction(resolve((anchor.fx, anchor.fy)[axis], size[axis])) / size[axis]


def start(anchor: Anchor, index: int, *, side: int, axis: int, share: Number) -> int:
    """The coordinate where a window of `side` pixels begins on an axis of `axis` pixels. `index` is 0 for x and 1 for
    y, `share` the focal point as a fraction. Only a focal window is moved so that it lies inside."""
    free = axis - side
    if anchor.kind == "focal":
        return min(max(whole(share * axis - Fraction(side, 2)), 0), max(free, 0))
    # An offset that is a fraction refers to the image at the time of this step.
    inward = whole(resolve((anchor.dx, anchor.dy)[index], axis))
    start, end = (("west", "east"), ("north", "south"))[index]
    if start in anchor.kind:
        return inward
    if end in anchor.kind:
        return free - inward
    return whole(Fraction(free, 2)) + inward
