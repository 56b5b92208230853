"""What the server foresees of a render from its original's first bytes. The worker has the last word."""

from imgserver.cost import Work
from imgserver.engine.job import Limits, Quality
from imgserver.errors import ImgserverError
from imgserver.plan import formats
from imgserver.plan.geometry import bind_plan
from imgserver.plan.plan import Dims, Plan
from imgserver.plan.sniffing import Sniffed, sniff

# What a file holds whose header does not tell, generously: photographs take 0.1 to 1 byte per pixel.
PIXELS_PER_BYTE = 4
# The head does not tell how many frames an animation has.
FRAMES_GUESSED = 20


def foresee(head: bytes, source_bytes: int, plan: Plan, *, quality: Quality, limits: Limits) -> Work:
    """Never raises: what it cannot tell it guesses, and what the worker will refuse costs next to nothing."""
    seen = sniff(head)
    width, height = _size(seen, source_bytes, limits)
    output = _output_format(seen, plan)
    after = _output_size(plan, Dims(width, height))
    return Work(
        source_format=seen.format,
        source_width=width,
        source_height=height,
        output_format=output,
        output_width=after.width,
        output_height=after.height,
        frames=FRAMES_GUESSED if seen.animated and formats.FORMATS[output].animation else 1,
        effort=_effort(output, after, plan, quality),
        whole=seen.whole,
    )


def _size(seen: Sniffed, source_bytes: int, limits: Limits) -> tuple[int, int]:
    if not seen.format or source_bytes > limits.source_bytes:
        return 1, 1
    if seen.width and seen.height:
        return (1, 1) if _is_over(seen.width, seen.height, limits) else (seen.width, seen.height)
    side = max(1, int(min(source_bytes * PIXELS_PER_BYTE, limits.source_pixels) ** 0.5))
    return side, side


def _is_over(width: int, height: int, limits: Limits) -> bool:
    """A bomb claims to cost hours, and is refused from its header."""
    return max(width, height) > limits.source_side or width * height > limits.source_pixels


def _output_size(plan: Plan, dims: Dims) -> Dims:
    try:
        return bind_plan(plan, dims).after
    except ImgserverError:
        return Dims(1, 1)


def _output_format(seen: Sniffed, plan: Plan) -> str:
    """What costs nothing to write, for what will not be written."""
    if plan.terminal.kind != "image":
        return "jpg"
    try:
        return formats.choose(plan.output, source=seen.format, alpha=False, animated=seen.animated)
    except ImgserverError:
        return "jpg"


def _effort(output: str, after: Dims, plan: Plan, quality: Quality) -> int | None:
    if output != "avif":
        return None
    if plan.output.effort is not None:
        return plan.output.effort
    return quality.avif_effort_for(after.width * after.height)
