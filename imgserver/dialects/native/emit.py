"""The steps of a segment, in a fixed order, whatever the order of its options.

Orient (first segment only), Trim, Crop, Fit, Turn, effects as written, opacity, Mask, Canvas, Flatten. So w and h
measure the image before `a` turns it, effects also change the padding, and a border is a straight frame around rounded
corners. A URL that needs another order has two segments.
"""

from collections.abc import Callable, Iterator
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
    for emit_kind in ORDER:
        yield from emit_kind(segment)


def _trim(segment: Segment) -> Iterator[Step]:
    return (step for step in segment.effect if isinstance(step, Trim))


def _crop(segment: Segment) -> Iterator[Step]:
    mode = mode_of(segment)
    if mode.name == "crop":
        yield Crop(segment.width, segment.height, segment.aspect_ratio, _anchor(segment, mode))
    if mode.name == "thumb":
        yield Crop(ratio=_ratio(segment), anchor=_anchor(segment, mode), zoom=segment.zoom or Fraction(1))


def _ratio(segment: Segment) -> Fraction:
    if segment.aspect_ratio is not None:
        return segment.aspect_ratio
    assert isinstance(segment.width, Px) and isinstance(segment.height, Px)
    return Fraction(segment.width.value) / segment.height.value


def _fit(segment: Segment) -> Iterator[Step]:
    mode = mode_of(segment)
    if not segment.has_side or mode.name == "crop":
        return
    if mode.name == "thumb":
        yield Fit(segment.width, segment.height, segment.aspect_ratio, "cover", "allow", finish="crop")
        return
    yield Fit(
        segment.width,
        segment.height,
        segment.aspect_ratio,
        mode.mode,
        mode.enlarge,
        mode.shrink,
        mode.finish,
        _anchor(segment, mode) if mode.finish != "none" else CENTER,
        _padding(segment.background),
    )


def _padding(background: Fill | None) -> Fill:
    return TRANSPARENT if background is None else background


def _anchor(segment: Segment, mode: Mode) -> Anchor:
    dx, dy = segment.x_offset or ZERO, segment.y_offset or ZERO
    if segment.gravity == "xy":
        return Anchor("focal", fx=dx, fy=dy)
    if segment.gravity in SMART:
        return Anchor(SMART[segment.gravity])
    has_offset = segment.x_offset is not None or segment.y_offset is not None
    default = "north_west" if mode.name == "crop" and has_offset else "center"
    return Anchor(_COMPASS[segment.gravity or default], dx=dx, dy=dy)


def _turn(segment: Segment) -> Iterator[Step]:
    # A color fills the corners of a turned image. The words `auto` and `blur` are for padding, and leave the corners
    # transparent.
    fill = segment.background if isinstance(segment.background, Color) else TRANSPARENT
    for part in segment.angle:
        if part == "ignore":
            continue
        motion = part % 360 if isinstance(part, int) else part
        yield Turn(MOTIONS[motion]) if motion in MOTIONS else Turn(degrees=int(motion), fill=fill)


def _effects(segment: Segment) -> Iterator[Step]:
    return (step for step in segment.effect if not isinstance(step, Trim))


def _opacity(segment: Segment) -> Iterator[Step]:
    if segment.opacity is not None:
        yield Tone("opacity", Fraction(segment.opacity, 100))


def _mask(segment: Segment) -> Iterator[Step]:
    if segment.radius == "max":
        yield Mask(ellipse=True)
    elif segment.radius is not None:
        yield Mask(segment.radius)


def _canvas(segment: Segment) -> Iterator[Step]:
    if segment.border is not None:
        width, color = segment.border
        yield Canvas((Px(width),) * 4, color)


def _flatten(segment: Segment) -> Iterator[Step]:
    if isinstance(segment.background, Color) and segment.background.alpha:
        yield Flatten(segment.background)


ORDER: tuple[Callable[[Segment], Iterator[Step]], ...] = (
    _trim,
    _crop,
    _fit,
    _turn,
    _effects,
    _opacity,
    _mask,
    _canvas,
    _flatten,
)
