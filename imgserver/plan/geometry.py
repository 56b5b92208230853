"""What size everything will be: pure arithmetic on plans, shared by the executor, the limit checks and `info`.

Numbers stay exact (`int`, `Fraction`) until `whole` rounds them; each quantity is rounded once. Nobody else computes a
size: the engine hands these integers to libvips.

The arithmetic of one Fit, and of windows and anchors, is in `plan/fitting.py`.
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

# libvips holds no axis longer than 10^8. What is scaled may lazily be far larger than what is kept, but not this large.
MAX_COORDINATE = 10_000_000


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
    """A crop's sides, exact, before it is clipped."""
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
            f" lies outside the {size[0]}×{size[1]} picture",
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
