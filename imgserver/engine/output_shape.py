"""What a job will produce: format, frames, sizes. Decided from the header and the plan, before a pixel is read."""

from dataclasses import dataclass, replace

from imgserver.engine.header import Header, refuse_over
from imgserver.engine.job import Limits
from imgserver.plan.formats import FORMATS, choose
from imgserver.plan.geometry import BoundPlan, bind_plan, check
from imgserver.plan.plan import Canvas, Color, Fit, Flatten, Mask, Output, Plan, Step, Tone, Turn


@dataclass(frozen=True, slots=True)
class OutputShape:
    """The name of the format to write, and how many frames to load."""

    format: str
    frames: int


def page_of(output: Output) -> int | None:
    """The page to open, from 0; None for the primary image of the file."""
    return output.frames - 1 if isinstance(output.frames, int) else None


def outline(header: Header, plan: Plan, limits: Limits) -> tuple[OutputShape, BoundPlan]:
    """Format and frames, and the size after each step.

    All limits are checked here. Raises ImageOverLimit for the original, OutputOverLimit for the result, what
    `bind_plan` raises, and NotInThisBuild for a format that cannot be written.
    """
    shape = shape_of(header, plan)
    refuse_over(header, shape.frames, limits)
    bounds = bind_plan(plan, replace(header.dims, frames=shape.frames))
    check(bounds, side=limits.output_side, pixels=limits.output_pixels)
    if plan.output.format == "auto" and _is_too_large(shape, bounds):
        # Negotiation chose the format, not the URL: the next best one that can hold the image takes its place.
        offers = tuple(name for name in plan.output.offers if name != shape.format)
        shape = shape_of(header, replace(plan, output=replace(plan.output, offers=offers)))
    return shape, bounds


def shape_of(header: Header, plan: Plan) -> OutputShape:
    """Animations stay animated if the format allows it. Raises NotInThisBuild."""
    animated = header.animated and plan.output.frames in ("auto", "all") and plan.terminal.kind in ("image", "info")
    alpha = alpha_after(plan.steps, header.alpha)
    name = choose(plan.output, source=header.format, alpha=alpha, animated=animated)
    return OutputShape(name, header.dims.frames if animated and FORMATS[name].animation else 1)


def alpha_after(steps: tuple[Step, ...], alpha: bool) -> bool:
    """Whether the image has an alpha channel after all steps. `alpha`: whether the original has one."""
    for step in steps:
        match step:
            case Flatten(color=color):
                alpha = alpha and color.alpha < 255
            case Mask() | Tone(name="opacity"):
                alpha = True
            case Fit(finish="pad", fill=Color(alpha=opacity)) | Canvas(fill=Color(alpha=opacity)):
                alpha = alpha or opacity < 255
            case Turn(degrees=degrees, fill=fill) if degrees % 90:
                alpha = not (isinstance(fill, Color) and fill.alpha == 255)
            case _:
                pass
    return alpha


def _is_too_large(shape: OutputShape, bounds: BoundPlan) -> bool:
    limit = FORMATS[shape.format].max_pixels
    return limit is not None and bounds.after.width * bounds.after.height > limit
