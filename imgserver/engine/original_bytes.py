"""The compressed pixels of the original as the answer, for a plan that changes none of them.

They are the answer where encoding them again would only make the file larger and the image worse. Nothing else of the
file is in the answer: lossless_strip.py removes it.
"""

from pathlib import Path

from imgserver.engine.color import KNOWN_SPACES, is_srgb_already
from imgserver.engine.header import Header, reopened
from imgserver.engine.lossless_strip import WALKERS, strip
from imgserver.engine.vips import LOADERS, Error, Image, reading
from imgserver.plan.geometry import Bound, bind_plan
from imgserver.plan.plan import Crop, Fit, Flatten, Orient, Plan, Step
from imgserver.runtime.resources import KIB

# No metadata takes more. A file that is larger than its result by more than this is not read a second time.
METADATA_BYTES = 512 * KIB


def smaller_original(header: Header, plan: Plan, frames: int, *, than: int) -> bytes | None:
    """The original's file without its metadata, if it may be the answer and has fewer than `than` bytes; else None.

    `frames`: how many the result has. Raises what `bind_plan` raises.
    """
    if header.bytes > than + METADATA_BYTES or reason_to_encode(header, plan, frames):
        return None
    body = strip(header.format, Path(header.path).read_bytes(), below=than)
    return body if body is not None and _is_sound(body, header) else None


def reason_to_encode(header: Header, plan: Plan, frames: int) -> str:
    """Why the original's compressed pixels cannot be the answer, as a word of engine/optimize.py; "" if they can."""
    fewer = frames != header.dims.frames
    if not _is_untouched(plan, header) or not _is_plain(plan) or (fewer and plan.output.frames != "auto"):
        return "options"
    if fewer or not _is_accepted(header.format, plan):
        return "format"
    if header.dims.orientation != 1 and any(isinstance(step, Orient) for step in plan.steps):
        return "orientation"
    with reading():
        image = reopened(header)
        if header.interpretation not in KNOWN_SPACES or not is_srgb_already(image):
            return "profile"
    return "" if header.format in WALKERS else "container"


def _is_accepted(name: str, plan: Plan) -> bool:
    """Whether the request accepts a result in this format."""
    wanted = plan.output.format
    if wanted == "auto":
        return name in ("jpg", "png", "gif") or name in plan.output.offers
    return wanted in ("source", name)


def _is_plain(plan: Plan) -> bool:
    output = plan.output
    return (output.metadata, output.profile, output.progressive) == ("none", "srgb", None)


def _is_untouched(plan: Plan, header: Header) -> bool:
    """Whether no step changes a pixel of this image."""
    bound = bind_plan(plan, header.dims)
    return not bound.is_partial and all(_is_neutral(one, header) for one in bound.bounds)


def _is_neutral(bound: Bound, header: Header) -> bool:
    """Whether a step has no effect: a resize to the same size, a background for an opaque image."""
    step: Step = bound.step
    if isinstance(step, Orient):
        return step.mode in ("exif", 1)
    if isinstance(step, Flatten):
        return not header.alpha
    same = (bound.before.width, bound.before.height) == bound.size
    return isinstance(step, Fit | Crop) and same and bound.scaled == bound.size


def _is_sound(body: bytes, header: Header) -> bool:
    """Whether the file decodes to the original's size without a warning: a warning may be the sign of hidden
    content."""
    load = getattr(Image, LOADERS[header.format][1] + "_buffer")
    options = {"n": -1} if header.animated else {}
    try:
        image = load(body, fail_on="warning", access="sequential", **options)
        image.avg()
    except Error:
        return False
    return (image.width, image.height) == (header.dims.width, header.dims.height * max(1, image.get_n_pages()))
