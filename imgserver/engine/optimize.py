"""Makes a file smaller: encodes the image again, or, if that made it larger, strips the metadata of the original.

The original's compressed pixels are used only if the request asks for no other size, format or metadata, if they look
right without orientation and profile, and if the stripped file decodes without a warning. Otherwise the larger result
is the answer, and its `reason` says why:

    options      the plan changes pixels, or asks for metadata or a way of encoding
    format       the request asks for another format, or not every client shows the original's
    orientation  the original has an EXIF orientation that must be applied
    profile      the original's colors need its profile
    container    the image data cannot be separated from the rest of the file
"""

import time
from dataclasses import replace
from pathlib import Path

from imgserver.engine.appended import left_out
from imgserver.engine.color import KNOWN_SPACES, is_srgb_already
from imgserver.engine.header import Header, examine, reopened
from imgserver.engine.job import Job, RenderResult
from imgserver.engine.lossless_strip import WALKERS, strip
from imgserver.engine.render import etag_of, render
from imgserver.engine.vips import LOADERS, Error, Image, reading
from imgserver.plan.formats import FORMATS
from imgserver.plan.geometry import Bound, bind_plan
from imgserver.plan.plan import Crop, Dims, Fit, Flatten, Orient, Plan, Step


def optimize(job: Job) -> RenderResult:
    """Renders the job; the result is no larger than the original, or says why it is. Raises what `render` raises."""
    result = _smaller(job)
    return replace(result, left_out=left_out(job.path)) if result.source_format == "jpg" else result


def _smaller(job: Job) -> RenderResult:
    cpu = time.process_time()
    result = render(job)
    if job.plan.terminal.kind != "image" or len(result.body) < result.source_bytes:
        return result
    header = examine(job.path, job.limits)
    reason = _reason_to_encode(header, job.plan, result)
    body = None if reason else _stripped(header)
    if body is None:
        outcome = replace(result, outcome="larger", reason=reason or "container")
        return outcome if len(result.body) > result.source_bytes else replace(result, outcome="encoded")
    spent = replace(result.timings, cpu_seconds=time.process_time() - cpu)
    size = Dims(header.dims.width, header.dims.height, 1, header.dims.frames)
    media_type = FORMATS[header.format].media_type
    return replace(
        result, body=body, media_type=media_type, etag=etag_of(body), size=size, timings=spent, outcome="original"
    )


def _reason_to_encode(header: Header, plan: Plan, result: RenderResult) -> str:
    """Why the original's compressed pixels cannot be the answer; "" if they can."""
    fewer = result.size.frames != header.dims.frames
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


def _stripped(header: Header) -> bytes | None:
    """The original file without its metadata; None if it cannot be stripped, or if the stripped file is not sound."""
    body = strip(header.format, Path(header.path).read_bytes())
    return body if body is not None and _is_sound(body, header) else None


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
