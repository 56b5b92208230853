"""From the header to the finished pixels: load the image, then run the steps of the plan in order.

There is one optimization across steps. If the plan begins with `[Orient] [Crop...] Fit`, the image is loaded at the
decoder's reduction (shrink-on-load), scaled while its pixels stream in stored order, and turned last. Colors are
converted where there are fewest pixels: after a Fit that shrinks, before one that enlarges.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from imgserver.engine import steps
from imgserver.engine.color import to_srgb
from imgserver.engine.frames import Frames
from imgserver.engine.header import Header
from imgserver.engine.job import Job
from imgserver.engine.load import load, reduction
from imgserver.engine.vips import working
from imgserver.engine.window import Window
from imgserver.plan.geometry import Bound, BoundPlan, Box, bind_plan, check, oriented, share_needed
from imgserver.plan.plan import Crop, Dims, Fit, Orient


def run_steps(header: Header, bounds: BoundPlan, job: Job, *, frame_count: int) -> Frames:
    """The frames after all steps, lazy where possible. `bounds` is the plan of `job` bound to the size in `header`.

    Raises what `load`, `bind_plan`, `check` and `steps.apply` raise.
    """
    first = prefix(bounds.bounds)
    in_full = not first and not _crops_smartly(bounds.bounds)
    scale = reduction(header, share_needed(bounds.bounds), job.quality.shrink_headroom, in_full=in_full)
    frames = load(header, frame_count=frame_count, scale=scale)
    convert = _converter(keep_profile=job.plan.output.profile == "keep")
    if first:
        # The size that libvips delivers is rounded down; a WebP is scaled to it, a JPEG is cut off there.
        exact = scale if header.format == "jpg" else None
        frames = _run_prefix(frames, first, convert, linear=job.quality.linear_light, exact=exact)
    else:
        frames = convert(frames)
    for bound in bounds.bounds[len(first) :]:
        frames = steps.apply(frames, bound, linear=job.quality.linear_light)
    return _run_rest(frames, bounds, job) if bounds.is_partial else frames


def _converter(*, keep_profile: bool) -> Callable[[Frames], Frames]:
    return lambda frames: frames.each(lambda image: to_srgb(image, keep_profile=keep_profile))


def _run_rest(frames: Frames, bounds: BoundPlan, job: Job) -> Frames:
    """The steps after a Trim, whose sizes depend on the trimmed size."""
    while True:
        dims = Dims(frames.width, frames.height, 1, len(frames.images))
        bounds = bind_plan(bounds.rest, dims)
        check(bounds, side=job.limits.output_side, pixels=job.limits.output_pixels)
        for bound in bounds.bounds:
            frames = steps.apply(frames, bound, linear=job.quality.linear_light)
        if not bounds.is_partial:
            return frames


def prefix(bounds: tuple[Bound, ...]) -> tuple[Bound, ...]:
    """The bounds up to and including the first Fit, if only an Orient and Crops with fixed windows precede it; else
    empty."""
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


def _crops_smartly(bounds: tuple[Bound, ...]) -> bool:
    """Whether the place of a window depends on the pixels: a fraction of a pixel at the edge is then irrelevant."""
    return any(isinstance(bound.step, Crop) and bound.step.anchor.is_smart for bound in bounds)


def _run_prefix(
    frames: Frames,
    first: tuple[Bound, ...],
    convert: Callable[[Frames], Frames],
    *,
    linear: bool,
    exact: Fraction | None,
) -> Frames:
    """`exact` is the scale of the loaded pixels; None if the loaded image is the whole image at any scale."""
    motion = _motion(first[0])
    fit = first[-1]
    window = _window(frames, first, motion, exact)
    size = oriented(fit.scaled, motion)
    enlarges = max(fit.scales) > 1
    between_pixels = not window.is_on_pixels and window.width >= size[0] and window.height >= size[1]
    with working():
        if not between_pixels:
            frames = steps.crop_to(frames, window.rounded(frames.width, frames.height))
        frames = convert(frames) if enlarges else frames
        frames = steps.resize(frames, size, linear=linear, window=window if between_pixels else None)
        frames = frames if enlarges else convert(frames)
        return steps.apply_finish(steps.apply_motion(frames, motion), fit)


def _window(frames: Frames, first: tuple[Bound, ...], motion: int, exact: Fraction | None) -> Window:
    """The part of the loaded image that the Fit scales, after all Crops before it."""
    before = first[0].before
    width, height = before.width, before.height
    left, top = 0, 0
    for bound in first[:-1]:
        if isinstance(bound.step, Crop):
            assert bound.box is not None
            box = unturned(bound.box, motion, (bound.before.width, bound.before.height))
            left, top, width, height = left + box.left, top + box.top, box.width, box.height
    across = exact or Fraction(frames.width, before.width)
    down = exact or Fraction(frames.height, before.height)
    return Window(left * across, top * down, width * across, height * down)


def _motion(first: Bound) -> int:
    if not isinstance(first.step, Orient):
        return 1
    return first.before.orientation if first.step.mode == "exif" else first.step.mode


def unturned(box: Box, motion: int, size: tuple[int, int]) -> Box:
    """The window `box` of an image of `size` after the motion, in the coordinates before the motion."""
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
