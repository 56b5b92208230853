"""The emission table: which steps a segment becomes, in this order whatever the order of its options.

Orient (first segment only), Trim, Crop, Fit, Turn, effects as written, opacity, Mask, Canvas, Flatten. So w and h
measure the picture before `a` turns it, effects also touch padding, and a border is a straight frame around rounded
corners. Whoever wants another order writes two segments.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction

from imgserver.dialects.native.modes import COMPASS, SMART, Mode
from imgserver.dialects.native.rules import mode_of
from imgserver.dialects.native.wish import Wish
from imgserver.plan.plan import (
    CENTER,
    TRANSPARENT,
    ZERO,
    Anchor,
    Canvas,
    Colour,
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


def emit(wish: Wish) -> Iterator[Step]:
    """The segment's steps, without Orient. The wish has passed `rules.check`."""
    for row in TABLE:
        yield from row(wish)


def _trim(wish: Wish) -> Iterator[Step]:
    return (step for step in wish.effect if isinstance(step, Trim))


def _crop(wish: Wish) -> Iterator[Step]:
    mode = mode_of(wish)
    if mode.name == "crop":
        yield Crop(wish.width, wish.height, wish.aspect_ratio, _anchor(wish, mode))
    if mode.name == "thumb":
        yield Crop(ratio=_shape(wish), anchor=_anchor(wish, mode), zoom=wish.zoom or Fraction(1))


def _shape(wish: Wish) -> Fraction:
    if wish.aspect_ratio is not None:
        return wish.aspect_ratio
    assert isinstance(wish.width, Px) and isinstance(wish.height, Px)
    return Fraction(wish.width.value) / wish.height.value


def _fit(wish: Wish) -> Iterator[Step]:
    mode = mode_of(wish)
    if not wish.has_side or mode.name == "crop":
        return
    if mode.name == "thumb":
        yield Fit(wish.width, wish.height, wish.aspect_ratio, "cover", "allow", finish="crop")
        return
    yield Fit(
        wish.width,
        wish.height,
        wish.aspect_ratio,
        mode.mode,
        mode.enlarge,
        mode.shrink,
        mode.finish,
        _anchor(wish, mode) if mode.finish != "none" else CENTER,
        _padding(wish.background),
    )


def _padding(background: Fill | None) -> Fill:
    return TRANSPARENT if background is None else background


def _anchor(wish: Wish, mode: Mode) -> Anchor:
    dx, dy = wish.x_offset or ZERO, wish.y_offset or ZERO
    if wish.gravity == "xy":
        return Anchor("focal", fx=dx, fy=dy)
    if wish.gravity in SMART:
        return Anchor(SMART[wish.gravity])
    moved = wish.x_offset is not None or wish.y_offset is not None
    default = "north_west" if mode.name == "crop" and moved else "center"
    return Anchor(_COMPASS[wish.gravity or default], dx=dx, dy=dy)


def _turn(wish: Wish) -> Iterator[Step]:
    # Turned corners take a colour; the words speak of padding, and leave corners transparent.
    fill = wish.background if isinstance(wish.background, Colour) else TRANSPARENT
    for part in wish.angle:
        if part == "ignore":
            continue
        motion = part % 360 if isinstance(part, int) else part
        yield Turn(MOTIONS[motion]) if motion in MOTIONS else Turn(degrees=int(motion), fill=fill)


def _effects(wish: Wish) -> Iterator[Step]:
    return (step for step in wish.effect if not isinstance(step, Trim))


def _opacity(wish: Wish) -> Iterator[Step]:
    if wish.opacity is not None:
        yield Tone("opacity", Fraction(wish.opacity, 100))


def _mask(wish: Wish) -> Iterator[Step]:
    if wish.radius == "max":
        yield Mask(ellipse=True)
    elif wish.radius is not None:
        yield Mask(wish.radius)


def _canvas(wish: Wish) -> Iterator[Step]:
    if wish.border is not None:
        width, colour = wish.border
        yield Canvas((Px(width),) * 4, colour)


def _flatten(wish: Wish) -> Iterator[Step]:
    if isinstance(wish.background, Colour) and wish.background.alpha:
        yield Flatten(wish.background)


TABLE: tuple[Callable[[Wish], Iterator[Step]], ...] = (
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
