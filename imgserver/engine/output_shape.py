"""What a job will produce: format, frames, sizes. Decided from the header and the plan, before a pixel is read."""

from dataclasses import dataclass, replace
from typing import Literal

from imgserver.engine.header import Header, refuse_over
from imgserver.engine.job import Limits
from imgserver.errors import FramesLost, OutputOverLimit
from imgserver.plan.formats import FORMATS, alpha_after, choose
from imgserver.plan.geometry import BoundPlan, bind_plan, check
from imgserver.plan.plan import Output, Plan


@dataclass(frozen=True, slots=True)
class OutputShape:
    """The name of the format to write, and how many frames to load.

    `reduce_colors`: a PNG stands in for a lossy format that the client does not accept. It gets a palette: a quarter of
    the bytes.
    """

    format: str
    frames: int
    reduce_colors: bool = False


def page_of(output: Output) -> int | None:
    """The page to open, from 0; None for the primary image of the file."""
    return output.frames - 1 if isinstance(output.frames, int) else None


def outline(header: Header, plan: Plan, limits: Limits, *, keep_frames: bool = False) -> tuple[OutputShape, BoundPlan]:
    """Format and frames, and the size after each step. `keep_frames`: only a plan that names a frame or a page may
    leave out the others.

    All limits are checked here. Raises ImageOverLimit for the original, OutputOverLimit for the result, what
    `bind_plan` raises, NotInThisBuild for a format that cannot be written, and FramesLost.
    """
    shape = shape_of(header, plan)
    if plan.terminal.kind == "image":
        _refuse_loss(header, plan.output.frames, shape, keep_frames=keep_frames)
    refuse_over(header, shape.frames, limits)
    bounds = bind_plan(plan, replace(header.dims, frames=shape.frames))
    check(bounds, side=limits.output_side, pixels=limits.output_pixels)
    after = bounds.after
    if plan.output.format == "auto":
        # Negotiation chose the format, not the URL: the next best one that can hold the image takes its place.
        offers = tuple(name for name in plan.output.offers if not FORMATS[name].excess(after.width, after.height))
        shape = shape_of(header, replace(plan, output=replace(plan.output, offers=offers)))
    if plan.terminal.kind == "image" and not bounds.is_partial:
        refuse_size(shape.format, after.width, after.height, plan.output)
    return shape, bounds


def refuse_size(name: str, width: int, height: int, output: Output) -> None:
    """Raises OutputOverLimit if a frame of this size is over the limits of the format `name`. The error names `f` only
    if the URL did."""
    allowed = FORMATS[name].excess(width, height)
    if not allowed:
        return
    size = f"{width}×{height}"
    argument = {"argument": "f"} if output.format == name else {}
    raise OutputOverLimit(
        f"{name}: {size} is over the format's limit; {allowed}", value=size, allowed=allowed, **argument
    )


def shape_of(header: Header, plan: Plan) -> OutputShape:
    """Animations stay animated if the format allows it. Raises NotInThisBuild."""
    animated = header.animated and plan.output.frames in ("auto", "all") and plan.terminal.kind in ("image", "info")
    alpha = alpha_after(plan.steps, header.alpha)
    output, source = plan.output, header.format
    name = choose(output, source=source, source_alpha=header.alpha, alpha=alpha, animated=animated)
    frames = header.dims.frames if animated and FORMATS[name].animation else 1
    return OutputShape(name, frames, reduce_colors=output.format == "auto" and name == "png" and _is_photo(source))


def _is_photo(source: str) -> bool:
    """Whether originals of this format are photographs, as a rule."""
    return FORMATS[source].lossy and source != "svg"


def _refuse_loss(
    header: Header, wanted: Literal["auto", "all", "first"] | int, shape: OutputShape, *, keep_frames: bool
) -> None:
    """Raises FramesLost. `all` refers to an animation: the pages of a document are separate images."""
    is_kept = header.is_animation if wanted == "all" else keep_frames and wanted == "auto"
    if header.file_frames <= shape.frames or not is_kept:
        return
    if header.animated:
        reason = f"{shape.format} holds one; f_webp and f_gif keep all, fl_still takes the first"
    elif header.is_animation:
        reason = "only the first can be read here; fl_still takes it"
    else:
        reason = "the result holds one; fl_still takes the first, pg_2 the second"
    pages = "frames" if header.is_animation else "pages"
    raise FramesLost(f"{header.format} with {header.file_frames} {pages}: {reason}")
