"""What size everything will be: pure arithmetic on plans, shared by the executor, the limit checks and `info`.

Numbers stay exact (`int`, `Fraction`) until `whole` rounds them; each quantity is rounded once. Nobody else computes a
size: the engine hands these integers to libvips.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import singledispatch

from imgserver.errors import BadRequest, OutputOverLimit
from imgserver.plan import (
    Anchor,
    Canvas,
    Crop,
    Dims,
    Fit,
    Flatten,
    Length,
    Number,
    Orient,
    Plan,
    Px,
    Step,
    Tone,
    Trim,
    Turn,
)

HALF = Fraction(1, 2)
# libvips holds no axis longer than 10^8. What is scaled may lazily be far larger than what is kept, but not this large.
MAX_COORDINATE = 10_000_000

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Box:
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Bound:
    """A step with its numbers. All in pixels.

    `scaled`: the picture after scaling, before it is cut or padded. `box`: for a step that cuts, the window inside
    `scaled` (with a smart anchor only its size is final); for one that pads, where `scaled` lies on the canvas.
    """

    step: Step
    before: Dims
    after: Dims
    scaled: Size
    box: Box | None = None

    @property
    def scales(self) -> tuple[Fraction, Fraction]:
        return Fraction(self.scaled[0], self.before.width), Fraction(self.scaled[1], self.before.height)

    @property
    def size(self) -> Size:
        return self.after.width, self.after.height


@dataclass(frozen=True, slots=True)
class BoundPlan:
    """The bound steps up to and with the first Trim; `rest` waits until the trimmed size is known."""

    before: Dims
    bounds: tuple[Bound, ...]
    rest: tuple[Step, ...] = ()

    @property
    def after(self) -> Dims:
        return self.bounds[-1].after if self.bounds else self.before

    @property
    def is_open(self) -> bool:
        """True if a Trim leaves the final size to the picture's content; `after` is then an upper bound up to there."""
        return bool(self.bounds) and isinstance(self.bounds[-1].step, Trim)


def whole(x: Number) -> int:
    """The nearest integer, halves away from zero."""
    return -math.floor(HALF - x) if x < 0 else math.floor(HALF + x)


def resolve(length: Length, axis: Number) -> Number:
    """A length in pixels, exact; a share is of `axis`."""
    return length.value if isinstance(length, Px) else length.share * axis


def oriented(size: Size, orientation: int) -> Size:
    """EXIF orientations 5-8 swap the sides."""
    return (size[1], size[0]) if orientation >= 5 else size


def bind_plan(plan: Plan | Sequence[Step], dims: Dims) -> BoundPlan:
    """Folds `bind` over the steps, up to the first Trim. Raises what `bind` raises."""
    steps = plan.steps if isinstance(plan, Plan) else tuple(plan)
    bounds: list[Bound] = []
    running = dims
    for index, step in enumerate(steps):
        bounds.append(bind(step, running))
        running = bounds[-1].after
        if isinstance(step, Trim):
            return BoundPlan(dims, tuple(bounds), steps[index + 1 :])
    return BoundPlan(dims, tuple(bounds))


@singledispatch
def bind(step: Step, dims: Dims) -> Bound:
    """One step's sizes on a picture of these dims. Raises BadRequest for a Fit that may not enlarge but would have to,
    and for a Crop outside the picture. A Trim keeps its incoming size, which is its upper bound."""
    return Bound(step, dims, dims, (dims.width, dims.height))


@bind.register
def _orient(step: Orient, dims: Dims) -> Bound:
    orientation = dims.orientation if step.mode == "exif" else step.mode
    width, height = oriented((dims.width, dims.height), orientation)
    after = replace(dims, width=width, height=height, orientation=1)
    return Bound(step, dims, after, (width, height))


@bind.register
def _turn(step: Turn, dims: Dims) -> Bound:
    width, height = oriented((dims.width, dims.height), step.motion)
    if step.degrees:
        width, height = _bounding((width, height), step.degrees)
    return Bound(step, dims, replace(dims, width=width, height=height), (width, height))


def _bounding(size: Size, degrees: int) -> Size:
    if degrees % 90 == 0:
        return oriented(size, 6 if degrees % 180 else 1)
    radians = math.radians(degrees % 180)
    # Rounded to nine digits: the last bits of libm's sine differ between machines, a size must not.
    cos, sin = (abs(Fraction(round(part * 10**9), 10**9)) for part in (math.cos(radians), math.sin(radians)))
    width, height = size
    return _side(width * cos + height * sin), _side(width * sin + height * cos)


@bind.register
def _canvas(step: Canvas, dims: Dims) -> Bound:
    top, right, bottom, left = (
        whole(resolve(margin, axis)) for margin, axis in zip(step.margins, (dims.height, dims.width) * 2, strict=True)
    )
    after = replace(dims, width=dims.width + left + right, height=dims.height + top + bottom)
    size = (dims.width, dims.height)
    return Bound(step, dims, after, size, Box(left, top, *size))


@bind.register
def _crop(step: Crop, dims: Dims) -> Bound:
    size = (dims.width, dims.height)
    width, height = (_side(side) for side in _window(step, size))
    if step.anchor.is_smart:
        width, height = min(width, dims.width), min(height, dims.height)
        box = Box(whole(Fraction(dims.width - width, 2)), whole(Fraction(dims.height - height, 2)), width, height)
    else:
        left = _start(step.anchor, 0, side=width, axis=dims.width, share=_focus(step.anchor, 0, size))
        top = _start(step.anchor, 1, side=height, axis=dims.height, share=_focus(step.anchor, 1, size))
        box = _clip(Box(left, top, width, height), step, size)
    return Bound(step, dims, replace(dims, width=box.width, height=box.height), size, box)


def _window(step: Crop, size: Size) -> tuple[Number, Number]:
    """A crop's sides, exact, before it is clipped."""
    width, height = _sides(step.width, step.height, step.ratio, size)
    if width is None and height is None and step.ratio is not None:
        width, height = _shaped(size, step.ratio, inside=True)
    wide = size[0] if width is None else width
    high = size[1] if height is None else height
    if step.zoom == 1:
        return wide, high
    return min(wide / step.zoom, Fraction(size[0])), min(high / step.zoom, Fraction(size[1]))


def _clip(box: Box, step: Crop, size: Size) -> Box:
    left, top = max(box.left, 0), max(box.top, 0)
    right, bottom = min(box.left + box.width, size[0]), min(box.top + box.height, size[1])
    clipped = Box(left, top, right - left, bottom - top)
    if clipped.width < 1 or clipped.height < 1 or (step.outside == "reject" and clipped != box):
        raise BadRequest(
            f"crop: the window {box.width}×{box.height} at {box.left}, {box.top}"
            f" lies outside the {size[0]}×{size[1]} picture",
            argument="crop",
            value=f"{box.width}×{box.height}",
            allowed=f"a window inside {size[0]}×{size[1]}",
        )
    return clipped


@bind.register
def _fit(step: Fit, dims: Dims) -> Bound:
    size = (dims.width, dims.height)
    box, asked = _asked_box(step, size)
    if box is None:
        return Bound(step, dims, dims, size)
    scales = _scales(step, size, box)
    scaled = _side(size[0] * scales[0]), _side(size[1] * scales[1])
    after = _finished(step, scaled, box, asked)
    place = _place(step, size, scaled, after) if step.finish != "none" else None
    return Bound(step, dims, replace(dims, width=after[0], height=after[1]), scaled, place)


def _asked_box(step: Fit, size: Size) -> tuple[Size | None, tuple[bool, bool]]:
    """The rounded box, and which of its axes were asked for; no box if the step does nothing."""
    width, height = _sides(step.width, step.height, step.ratio, size)
    if width is None and height is None:
        if step.ratio is None:
            return None, (False, False)
        width, height = _shaped(size, step.ratio, inside=step.mode == "cover")
        return (_side(width), _side(height)), (True, True)
    asked = width is not None, height is not None
    # One of the two is there, so the other follows from the picture's own proportion.
    wide = width if width is not None else Fraction(height or 1) * size[0] / size[1]
    high = height if height is not None else Fraction(width or 1) * size[1] / size[0]
    if step.enlarge == "shrink_box":
        k = min(Fraction(1), Fraction(size[0]) / wide, Fraction(size[1]) / high)
        wide, high = k * wide, k * high
    return (_side(wide), _side(high)), asked


def _sides(
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


def _shaped(size: Size, ratio: Fraction, *, inside: bool) -> tuple[Number, Number]:
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
        _start(anchor, axis, side=inner[axis], axis=outer[axis], share=_focus(anchor, axis, size)) for axis in (0, 1)
    )
    left, top = (min(max(start, 0), outer[axis] - inner[axis]) for axis, start in enumerate(starts))
    return Box(left, top, *inner)


def _focus(anchor: Anchor, axis: int, size: Size) -> Number:
    """The focal point as a share of the picture it was given on."""
    return Fraction(resolve((anchor.fx, anchor.fy)[axis], size[axis])) / size[axis]


def _start(anchor: Anchor, index: int, *, side: int, axis: int, share: Number) -> int:
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


def _side(x: Number) -> int:
    return max(1, whole(x))


def check(bounds: BoundPlan, *, side: int, pixels: int) -> None:
    """Refuses a plan whose result, or any step that grows the picture, is over `side` px a side or `pixels` over all
    frames. Raises OutputOverLimit, before anything is decoded.

    A step that only keeps or cuts a large original is no fault: what counts there is what comes out in the end.
    """
    for bound in bounds.bounds:
        for width, height in _grown(bound):
            _refuse_over(_name(bound.step), Dims(width, height, 1, bound.after.frames), side=side, pixels=pixels)
        if max(bound.scaled) > MAX_COORDINATE:
            _refuse_over(_name(bound.step), Dims(*bound.scaled), side=MAX_COORDINATE, pixels=pixels)
    if not bounds.is_open:
        name = _name(bounds.bounds[-1].step) if bounds.bounds else "image"
        _refuse_over(name, bounds.after, side=side, pixels=pixels)


def _grown(bound: Bound) -> Iterator[Size]:
    before = bound.before.width, bound.before.height
    if max(bound.size) > max(before) or bound.size[0] * bound.size[1] > before[0] * before[1]:
        yield bound.size
    # A smart window is sought in the whole scaled picture.
    if isinstance(bound.step, Fit) and bound.step.anchor.is_smart and max(bound.scales) > 1:
        yield bound.scaled


def _refuse_over(name: str, dims: Dims, *, side: int, pixels: int) -> None:
    if max(dims.width, dims.height) <= side and dims.width * dims.height * dims.frames <= pixels:
        return
    frames = f" with {dims.frames} frames" if dims.frames > 1 else ""
    allowed = f"sides up to {side} px, {pixels} pixels over all frames"
    raise OutputOverLimit(
        f"{name}: {dims.width}×{dims.height}{frames} is over the limit; {allowed}",
        argument=name,
        value=f"{dims.width}×{dims.height}",
        allowed=allowed,
    )


def _name(step: Step) -> str:
    return type(step).__name__.lower()


def share_needed(bounds: Sequence[Bound]) -> Fraction:
    """How much of full resolution the loader must deliver: one backward walk, 1 being all of it.

    What follows a Fit sees its result only. Steps measured in pixels of their picture need it whole.
    """
    share = Fraction(1)
    for bound in reversed(bounds):
        match bound.step:
            case Fit():
                share = min(Fraction(1), max(bound.scales))
            case Orient() | Crop() | Tone() | Flatten() | Turn(degrees=0):
                pass
            case _:
                share = Fraction(1)
    return share
