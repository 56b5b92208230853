"""The size of everything: pure arithmetic on plans, shared by the engine, the limit checks and `f_info`.

Numbers stay exact (`int`, `Fraction`) until `whole` rounds them. Each quantity is rounded once. No other module
computes a size: the engine passes these integers to libvips.

`plan/fitting.py` has the arithmetic of one Fit, and of windows and anchors.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import singledispatch

from imgserver.errors import BadRequest, OutputOverLimit
from imgserver.plan.fitting import Box as Box
from imgserver.plan.fitting import Size as Size
from imgserver.plan.fitting import at_least_one, fit, focus, shaped, sides, start
from imgserver.plan.fitting import resolve as resolve
from imgserver.plan.fitting import whole as whole
from imgserver.plan.plan import Canvas, Crop, Dims, Fit, Flatten, Number, Orient, Plan, Step, Tone, Trim, Turn

# libvips supports no axis longer than 10^8. An image is scaled lazily, so it may be far larger than the part that is
# used, but not larger than this.
MAX_COORDINATE = 10_000_000


@dataclass(frozen=True, slots=True)
class Bound:
    """A step with its sizes for one image, in pixels.

    `scaled`: the size after scaling, before the crop or the padding. `box`: for a step that crops, the window inside
    `scaled` (with a smart anchor only its size is final); for a step that pads, the place of `scaled` on the canvas.
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
    """The bound steps up to and including the first Trim. `rest` are the steps after it, which can be bound when the
    trimmed size is known."""

    before: Dims
    bounds: tuple[Bound, ...]
    rest: tuple[Step, ...] = ()

    @property
    def after(self) -> Dims:
        return self.bounds[-1].after if self.bounds else self.before

    @property
    def is_partial(self) -> bool:
        """Whether a Trim makes the final size depend on the pixels. `after` is then an upper bound of the trimmed
        size."""
        return bool(self.bounds) and isinstance(self.bounds[-1].step, Trim)


def oriented(size: Size, orientation: int) -> Size:
    """The size after an EXIF orientation is applied: 5 to 8 swap the sides."""
    return (size[1], size[0]) if orientation >= 5 else size


def bind_plan(plan: Plan | Sequence[Step], dims: Dims) -> BoundPlan:
    """Binds each step to the size after the step before it, up to the first Trim. Raises what `bind` raises."""
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
    """The sizes of one step for an image of these dimensions. A Trim keeps the size before it, which is its upper
    bound.

    Raises BadRequest for a Fit that would enlarge the image and must not, and for a Crop outside the image.
    """
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
        width, height = _bounding_box((width, height), step.degrees)
    return Bound(step, dims, replace(dims, width=width, height=height), (width, height))


def _bounding_box(size: Size, degrees: int) -> Size:
    if degrees % 90 == 0:
        return oriented(size, 6 if degrees % 180 else 1)
    radians = math.radians(degrees % 180)
    # Rounded to nine digits: the last bits of sine differ between machines, and a size must not.
    cos, sin = (abs(Fraction(round(part * 10**9), 10**9)) for part in (math.cos(radians), math.sin(radians)))
    width, height = size
    return at_least_one(width * cos + height * sin), at_least_one(width * sin + height * cos)


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
    width, height = (at_least_one(side) for side in _window(step, size))
    if step.anchor.is_smart:
        width, height = min(width, dims.width), min(height, dims.height)
        box = Box(whole(Fraction(dims.width - width, 2)), whole(Fraction(dims.height - height, 2)), width, height)
    else:
        left = start(step.anchor, 0, side=width, axis=dims.width, share=focus(step.anchor, 0, size))
        top = start(step.anchor, 1, side=height, axis=dims.height, share=focus(step.anchor, 1, size))
        box = _clip(Box(left, top, width, height), step, size)
    return Bound(step, dims, replace(dims, width=box.width, height=box.height), size, box)


def _window(step: Crop, size: Size) -> tuple[Number, Number]:
    """The exact sides of a crop, before it is clipped to the image."""
    width, height = sides(step.width, step.height, step.ratio, size)
    if width is None and height is None and step.ratio is not None:
        width, height = shaped(size, step.ratio, inside=True)
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
            f" lies outside the {size[0]}×{size[1]} image",
            argument="crop",
            value=f"{box.width}×{box.height}",
            allowed=f"a window inside {size[0]}×{size[1]}",
        )
    return clipped


@bind.register
def _fit(step: Fit, dims: Dims) -> Bound:
    fitted = fit(step, (dims.width, dims.height))
    width, height = fitted.size
    return Bound(step, dims, replace(dims, width=width, height=height), fitted.scaled, fitted.box)


def check(bounds: BoundPlan, *, side: int, pixels: int) -> None:
    """Raises OutputOverLimit if the result, or the size after a step that enlarges, is over `side` pixels on a side or
    over `pixels` in all frames together.

    A step that keeps or crops a large original is allowed: for it only the size of the result counts.
    """
    for bound in bounds.bounds:
        for width, height in _grown(bound):
            _refuse_over(_name(bound.step), Dims(width, height, 1, bound.after.frames), side=side, pixels=pixels)
        if max(bound.scaled) > MAX_COORDINATE:
            _refuse_over(_name(bound.step), Dims(*bound.scaled), side=MAX_COORDINATE, pixels=pixels)
    if not bounds.is_partial:
        _refuse_over(_last_resize(bounds), bounds.after, side=side, pixels=pixels)


def _last_resize(bounds: BoundPlan) -> str:
    """The name of the last step that changed the sides; "" if the result has those of the original."""
    resizing = (bound for bound in reversed(bounds.bounds) if sorted(bound.size) != _sorted_sides(bound.before))
    return next((_name(bound.step) for bound in resizing), "")


def _sorted_sides(dims: Dims) -> list[int]:
    return sorted((dims.width, dims.height))


def _grown(bound: Bound) -> Iterator[Size]:
    before = bound.before.width, bound.before.height
    if max(bound.size) > max(before) or bound.size[0] * bound.size[1] > before[0] * before[1]:
        yield bound.size
    # A smart crop examines the whole scaled image.
    if isinstance(bound.step, Fit) and bound.step.anchor.is_smart and max(bound.scales) > 1:
        yield bound.scaled


def _refuse_over(name: str, dims: Dims, *, side: int, pixels: int) -> None:
    """`name` is the step that makes the size; "" for the size of the original."""
    if max(dims.width, dims.height) <= side and dims.width * dims.height * dims.frames <= pixels:
        return
    frames = f" with {dims.frames} frames" if dims.frames > 1 else ""
    size, allowed = f"{dims.width}×{dims.height}", f"sides up to {side} px, {pixels} pixels over all frames"
    if name:
        detail = f"{name}: {size}{frames} is over the limit; {allowed}"
        raise OutputOverLimit(detail, argument=name, value=size, allowed=allowed)
    detail = f"the original is {size}{frames}, and a result of that size is over the limit; {allowed}"
    raise OutputOverLimit(detail, value=size, allowed=allowed)


def _name(step: Step) -> str:
    return type(step).__name__.lower()


def share_needed(bounds: Sequence[Bound]) -> Fraction:
    """The fraction of the full resolution that the steps need from the decoder; 1 is all of it, and more is asked of
    what can be drawn at any size. Found from the last step to the first.

    The steps after a Fit only see its result. A step whose amount is in pixels needs its image at full resolution.
    """
    share = Fraction(1)
    for bound in reversed(bounds):
        match bound.step:
            case Fit():
                share = max(bound.scales)
            case Orient() | Crop() | Tone() | Flatten() | Turn(degrees=0):
                pass
            case _:
                share = Fraction(1)
    return share
