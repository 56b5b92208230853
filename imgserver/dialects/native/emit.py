"""The emission table: which steps a segment becomes, in this order whatever the order of its options.

Orient (first segment only), Trim, Crop, Fit, Turn, effects as written, opacity, Mask, Canvas, Flatten. So w and h
measure the picture before `a` turns it, effects also touch padding, and a border is a straight frame around rounded
corners. Whoever wants another order writes two segments.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

from imgserver.dialects.native.messages import bad_rule
from imgserver.dialects.native.modes import COMPASS, CONTRADICTIONS, SMART, Mode
from imgserver.dialects.native.options import OPTIONS
from imgserver.dialects.native.segment import Wish
from imgserver.dialects.native.validation import mode_of
from imgserver.errors import NotInThisBuild
from imgserver.plan.formats import FORMATS
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
    Kernel,
    Length,
    Mask,
    Number,
    Output,
    Px,
    Step,
    Terminal,
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
    # Turned corners take a color; the words speak of padding, and leave corners transparent.
    fill = wish.background if isinstance(wish.background, Color) else TRANSPARENT
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
        width, color = wish.border
        yield Canvas((Px(width),) * 4, color)


def _flatten(wish: Wish) -> Iterator[Step]:
    if isinstance(wish.background, Color) and wish.background.alpha:
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


# Folding dpr into a plan: it multiplies pixel lengths of the first Fit and of everything after it.
#
# Pixels that measure the picture before any Fit, such as a crop box or a focal point on the original, stay.


def fold(steps: Iterable[Step], ratio: Fraction) -> tuple[Step, ...]:
    folded: list[Step] = []
    fitted = False
    for step in steps:
        if fitted:
            folded.append(_scaled(step, ratio))
        elif isinstance(step, Fit):
            point = step.anchor.fx, step.anchor.fy
            scaled = _scaled_fit(step, ratio)
            folded.append(replace(scaled, anchor=replace(scaled.anchor, fx=point[0], fy=point[1])))
            fitted = True
        else:
            folded.append(step)
    return tuple(folded)


def _scaled(step: Step, ratio: Fraction) -> Step:
    match step:
        case Fit():
            return _scaled_fit(step, ratio)
        case Crop():
            width, height = _side(step.width, ratio), _side(step.height, ratio)
            return replace(step, width=width, height=height, anchor=_scaled_anchor(step.anchor, ratio))
        case Canvas():
            top, right, bottom, left = (_length(margin, ratio) for margin in step.margins)
            return replace(step, margins=(top, right, bottom, left))
        case Mask():
            first, second, third, fourth = (_number(radius, ratio) for radius in step.radii)
            return replace(step, radii=(first, second, third, fourth))
        case Kernel(name="blur" | "pixelate"):
            return replace(step, amount=_number(step.amount, ratio))
    return step


def _scaled_fit(step: Fit, ratio: Fraction) -> Fit:
    width, height = _side(step.width, ratio), _side(step.height, ratio)
    return replace(step, width=width, height=height, anchor=_scaled_anchor(step.anchor, ratio))


def _scaled_anchor(anchor: Anchor, ratio: Fraction) -> Anchor:
    fx, fy, dx, dy = (_length(length, ratio) for length in (anchor.fx, anchor.fy, anchor.dx, anchor.dy))
    return Anchor(anchor.kind, fx, fy, dx, dy)


def _side(side: Length | None, ratio: Fraction) -> Length | None:
    return None if side is None else _length(side, ratio)


def _length(length: Length, ratio: Fraction) -> Length:
    return Px(_number(length.value, ratio)) if isinstance(length, Px) else length


def _number(number: Number, ratio: Fraction) -> Number:
    product = number * ratio
    return int(product) if product.denominator == 1 else product


# The keys that act once on the whole URL: from any segment, the last one counts.

NAMES = {row.key: row.name for row in OPTIONS.values() if row.scope == "url"}


def gather(wishes: Iterable[Wish]) -> Wish:
    """One wish holding the last of each global key."""
    last: dict[str, Any] = {}
    written = {}
    for wish in wishes:
        for key in NAMES.keys() & wish.written.keys():
            last[NAMES[key]] = getattr(wish, NAMES[key])
            written[key] = wish.written[key]
    return Wish(**last, written=written)


def emit_output(wish: Wish) -> tuple[Output, Terminal]:
    """Raises BadOption for keys that cannot stand together, NotInThisBuild for formats that cannot be written."""
    _check(wish)
    terminal = wish.format if isinstance(wish.format, Terminal) else Terminal()
    flags = wish.flags
    output = Output(
        format=wish.format if isinstance(wish.format, str) else "source",
        quality=wish.quality or "auto",
        lossless="lossless" in flags,
        progressive=True if "progressive" in flags else None,
        metadata="all" if "keep_metadata" in flags else "copyright" if "keep_copyright" in flags else "none",
        profile="keep" if "keep_profile" in flags else "srgb",
        frames=wish.page or ("all" if "animated" in flags else "first" if "still" in flags else "auto"),
    )
    return output, terminal


def pixel_ratio(wish: Wish) -> Fraction:
    return wish.pixel_ratio or Fraction(1)


def _check(wish: Wish) -> None:
    flags = wish.flags
    for one, other in CONTRADICTIONS:
        if one in flags and other in flags:
            raise bad_rule(wish.written["fl"], f"{one} and {other} exclude each other")
    if wish.page is not None and "animated" in flags:
        raise bad_rule(wish.written["pg"], "one page has no animation; leave out fl_animated")
    if isinstance(wish.format, str):
        _check_format(wish, wish.format)


def _check_format(wish: Wish, name: str) -> None:
    row = FORMATS.get(name)
    if row is None:
        return
    if not row.writable:
        option = wish.written["f"]
        raise NotInThisBuild(f"f: this build cannot write {name}", argument="f", value=option.text, at=option.at)
    needs = {"animated": row.animation, "lossless": row.lossless, "progressive": row.progressive}
    for flag, able in needs.items():
        if flag in wish.flags and not able:
            raise bad_rule(wish.written["fl"], f"{flag} has no effect on {name}")
