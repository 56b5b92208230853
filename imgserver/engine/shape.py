"""What a job will produce, decided from header and plan alone: page, frames, alpha, format. No pixel is read."""

from dataclasses import dataclass

from imgserver.engine.header import Header
from imgserver.plan.formats import FORMATS, choose
from imgserver.plan.plan import Canvas, Colour, Fit, Flatten, Mask, Output, Plan, Step, Tone, Turn


@dataclass(frozen=True, slots=True)
class Shape:
    """`frames` to load, and the format to write."""

    format: str
    frames: int


def page_of(output: Output) -> int | None:
    """The page to open, from 0; None for the one that the file itself holds to be its picture."""
    return output.frames - 1 if isinstance(output.frames, int) else None


def shape_of(header: Header, plan: Plan) -> Shape:
    """Animations stay animated if the output can be. Raises NotInThisBuild."""
    moving = header.animated and plan.output.frames in ("auto", "all") and plan.terminal.kind in ("image", "info")
    alpha = alpha_after(plan.steps, header.alpha)
    name = choose(plan.output, source=header.format, alpha=alpha, animated=moving)
    return Shape(name, header.dims.frames if moving and FORMATS[name].animation else 1)


def alpha_after(steps: tuple[Step, ...], alpha: bool) -> bool:
    """Whether the picture has an alpha channel when all steps are done."""
    for step in steps:
        match step:
            case Flatten():
                alpha = False
            case Mask() | Tone(name="opacity"):
                alpha = True
            case Fit(finish="pad", fill=Colour(alpha=opacity)) | Canvas(fill=Colour(alpha=opacity)):
                alpha = alpha or opacity < 255
            case Turn(degrees=degrees, fill=fill) if degrees % 90:
                alpha = not (isinstance(fill, Colour) and fill.alpha == 255)
            case _:
                pass
    return alpha
