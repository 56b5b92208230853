"""From header to finished pixels: one load of the plan's prefix, then its steps as listed.

The only optimization across steps: `[Orient] [Crop...] Fit` at the front becomes one load at the decoder's reduction,
scaled while the pixels still stream in stored order, and only then turned. Colors are converted where fewest pixels
are: after a Fit that shrinks, before one that enlarges.
"""

from collections.abc import Callable
from dataclasses import replace

from imgserver.engine import steps
from imgserver.engine.color import normal
from imgserver.engine.frames import Picture
from imgserver.engine.header import Header
from imgserver.engine.job import Job
from imgserver.engine.load import load, reduction
from imgserver.engine.vips import working
from imgserver.plan.geometry import Bound, BoundPlan, Box, bind_plan, check, oriented, share_needed
from imgserver.plan.plan import Crop, Dims, Fit, Orient


def develop(header: Header, bounds: BoundPlan, job: Job, *, frames: int) -> Picture:
    """The picture with all steps done, still lazy where it can be. Raises what `bind`, `check` and `apply` raise."""
    front = prefix(bounds.bounds)
    scale = reduction(header, share_needed(bounds.bounds), job.quality.shrink_headroom)
    picture = load(header, frames=frames, scale=scale)
    convert = _converter(keep_profile=job.plan.output.profile == "keep")
    picture = _prefixed(picture, front, convert, linear=job.quality.linear_light) if front else convert(picture)
    for bound in bounds.bounds[len(front) :]:
        picture = steps.apply(picture, bound, linear=job.quality.linear_light)
    return _rest(picture, bounds, job) if bounds.is_open else picture


def _converter(*, keep_profile: bool) -> Callable[[Picture], Picture]:
    return lambda picture: picture.each(lambda image: normal(image, keep_profile=keep_profile))


def _rest(picture: Picture, bounds: BoundPlan, job: Job) -> Picture:
    """What had to wait for the trimmed size."""
    while True:
        dims = Dims(picture.width, picture.height, 1, len(picture.frames))
        bounds = bind_plan(bounds.rest, dims)
        check(bounds, side=job.limits.output_side, pixels=job.limits.output_pixels)
        for bound in bounds.bounds:
            picture = steps.apply(picture, bound, linear=job.quality.linear_light)
        if not bounds.is_open:
            return picture


def prefix(bounds: tuple[Bound, ...]) -> tuple[Bound, ...]:
    """The bounds up to and with the first Fit, if only an Orient and fixed Crops stand before it."""
    for index, bound in enumerate(bounds):
        match bound.step:
            case Fit():
                return bounds[: index + 1]
            case Orient() if index == 0:
                continue
            case Crop(anchor=anchor) if not anchor.is_smart:
                continue
            case _:
                return ()
    return ()


def _prefixed(
    picture: Picture, front: tuple[Bound, ...], convert: Callable[[Picture], Picture], *, linear: bool
) -> Picture:
    motion = _motion(front[0])
    fit = front[-1]
    for bound in front[:-1]:
        if isinstance(bound.step, Crop):
            picture = _cut_as_stored(picture, bound, motion)
    enlarges = max(fit.scales) > 1
    with working():
        picture = convert(picture) if enlarges else picture
        picture = steps.scaled(picture, oriented(fit.scaled, motion), linear=linear)
        picture = picture if enlarges else convert(picture)
        return steps.finished(steps.turned(picture, motion), fit)


def _motion(first: Bound) -> int:
    if not isinstance(first.step, Orient):
        return 1
    return first.before.orientation if first.step.mode == "exif" else first.step.mode


def _cut_as_stored(picture: Picture, bound: Bound, motion: int) -> Picture:
    assert bound.box is not None
    size = bound.before.width, bound.before.height
    box = unturned(bound.box, motion, size)
    return steps.cut(picture, steps.loaded_box(box, oriented(size, motion), picture))


def unturned(box: Box, motion: int, size: tuple[int, int]) -> Box:
    """A window of the turned picture of this size, in the picture before the motion."""
    right, below = size[0] - box.left - box.width, size[1] - box.top - box.height
    match motion:
        case 2:
            return replace(box, left=right)
        case 3:
            return replace(box, left=right, top=below)
        case 4:
            return replace(box, top=below)
        case 5:
            return Box(box.top, box.left, box.height, box.width)
        case 6:
            return Box(box.top, right, box.height, box.width)
        case 7:
            return Box(below, right, box.height, box.width)
        case 8:
            return Box(below, box.left, box.height, box.width)
        case _:
            return box
