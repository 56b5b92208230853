"""The steps of a segment, in a fixed order, whatever the order of its options.

Orient (first segment only), Trim, Crop, Fit, Turn, effects as written, opacity, Mask, Canvas, Flatten. So w and h
measure the image before `a` turns it, effects also change the padding, and a border is a straight frame around rounded
corners. A URL that needs another order has two segments.
"""

from collections.abc import Iterator
from fractions import Fraction

from imgserver.dialects.native.modes import COMPASS, SMART, Mode
from imgserver.dialects.native.segment import Segment
from imgserver.dialects.native.validation import mode_of
from imgserver.plan.plan import (
    CENTER,
    TRANSPARENT,
    ZERO,
    Anchor,
    Canvas,
    Color,
    Compass,
    Crop,
    Fill,
    Fit,
    Flatten,
    Mask,
    Px,
    Step,
    Tone,
    Trim,
    Turn,
)

MOTIONS = {"hflip": 2, "vflip": 4, 0: 1, 90: 6, 180: 3, 270: 8}
_COMPASS: dict[str, Compass] = {word: word for word in COMPASS}


def emit(segment: Segment) -> Iterator[Step]:
    """The steps of a segment that `validation.check` has accepted, without Orient."""
    mode = mode_of(segment)
    for step in segment.effect:
        if isinstance(step, Trim):
            yield step
    if mode.name == "crop":
        yield Crop(segment.width, segment.height, segment.aspect_ratio, _anchor(segment, mode))
    if mode.name == "thumb":
        yield Crop(ratio=_ratio(segment), anchor=_anchor(segment, mode), zoom=segment.zoom or Fraction(1))
    if segment.has_side and mode.name != "crop":
        yield _fit(segment, mode)
    if segment.angle:
        yield from _turns(segment)
    for step in segment.effect:
        if not isinstance(step, Trim):
            yield step
    if segment.opacity is not None:
        yield Tone("opacity", Fraction(segment.opacity, 100))
    if segment.radius is not None:
        yield Mask(ellipse=True) if segment.radius == "max" else Mask(segment.radius)
    if segment.border is not None:
        width, color = segment.border
        yield Canvas((Px(width),) * 4, color)
    if isinstance(segment.background, Color) and segment.background.alpha:
        yield Flatten(segment.background)


def _ratio(segment: Segment) -> Fraction:
    if segment.aspect_ratio is not None:
        return segment.aspect_ratio
    assert isinstance(segment.width, Px) and isinstance(segment.height, Px)
    return Fraction(segment.width.value) / segment.height.value


def _fit(segment: Segment, mode: Mode) -> Fit:
    if mode.name == "thumb":
        return Fit(segment.width, segment.height, segment.aspect_ratio, "cover", "allow", finish="crop")
    return Fit(
        segment.width,
        segment.height,
        segment.aspect_ratio,
        mode.mode,
        mode.enlarge,
        mode.shrink,
        mode.finish,
        _anchor(segment, mode) if mode.finish != "none" else CENTER,
        _fill(segment),
    )


def _fill(segment: Segment) -> Fill:
    """What padding and corners are filled with. A translucent color leaves them transparent: it is laid under the
    finished image, once."""
    background = segment.background
    if background is None or (isinstance(background, Color) and background.alpha < 255):
        return TRANSPARENT
    return background


def _anchor(segment: Segment, mode: Mode) -> Anchor:
    dx, dy = segment.x_offset or ZERO, segment.y_offset or ZERO
    if segment.gravity == "xy":
        return Anchor("focal", fx=dx, fy=dy)
    if segment.gravity in SMART:
        return Anchor(SMART[segment.gravity])
    has_offset = segment.x_offset is not None or segment.y_offset is not None
    default = "north_west" if mode.name == "crop" and has_offset else "center"
    return Anchor(_COMPASS[segment.gravity or default], dx=dx, dy=dy)


def _turns(segment: Segment) -> Iterator[Step]:
    # The words `auto` and `blur` are for padding, and leave the corners of a turned image transparent.
    fill = _fill(segment)
    fill = fill if isinstance(fill, Color) else TRANSPARENT
    for part in segment.angle:
        if part == "ignore":
            continue
        motion = part % 360 if isinstance(part, int) else part
        yield Turn(MOTIONS[motion]) if motion in MOTIONS else Turn(degrees=int(motion), fill=fill)
