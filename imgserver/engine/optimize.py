"""A picture that is to become smaller: encoded anew, or, where that made it larger, the original without its metadata.

The original's own pixels are only handed on when nothing else was asked for than to be small: no other size, format or
metadata; when they need no turning and no profile to look right; and when the stripped file decodes without so much as
a warning. Otherwise the larger result stands, and says why:

    options      the plan changes pixels, or asks for metadata or a manner of writing
    format       another format was asked for, or the original's is not for every client
    orientation  the original lies on its side
    profile      its colors mean nothing without its profile
    container    its own segments cannot be told from the rest
"""

import time
from dataclasses import replace
from pathlib import Path

from imgserver.engine.color import UNCOLORED, is_srgb_already
from imgserver.engine.header import Header, examine, opened
from imgserver.engine.job import Job, RenderResult
from imgserver.engine.lossless_strip import WALKERS, strip
from imgserver.engine.render import etag_of, render
from imgserver.engine.vips import LOADERS, Error, Image, reading
from imgserver.plan.formats import FORMATS
from imgserver.plan.geometry import Bound, bind_plan
from imgserver.plan.plan import Crop, Dims, Fit, Flatten, Orient, Plan, Step


def optimize(job: Job) -> RenderResult:
    """Raises what `render` raises."""
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
    """Why the original's own pixels will not do; "" if they will."""
    fewer = result.size.frames != header.dims.frames
    if not _is_untouched(plan, header) or not _is_plain(plan) or (fewer and plan.output.frames != "auto"):
        return "options"
    if fewer or not _may_be(header.format, plan):
        return "format"
    if header.dims.orientation != 1 and any(isinstance(step, Orient) for step in plan.steps):
        return "orientation"
    with reading():
        image = opened(header.path, header.format)
        if header.interpretation not in UNCOLORED or not is_srgb_already(image):
            return "profile"
    return "" if header.format in WALKERS else "container"


def _may_be(name: str, plan: Plan) -> bool:
    """Whether a result of this format is what was asked for."""
    asked = plan.output.format
    if asked == "auto":
        return name in ("jpg", "png", "gif") or name in plan.output.offers
    return asked in ("source", name)


def _is_plain(plan: Plan) -> bool:
    output = plan.output
    return (output.metadata, output.profile, output.progressive) == ("none", "srgb", None)


def _is_untouched(plan: Plan, header: Header) -> bool:
    """Whether no step changes a pixel of this very picture, whatever it would do to another."""
    bound = bind_plan(plan, header.dims)
    return not bound.is_open and all(_is_neutral(one, header) for one in bound.bounds)


def _is_neutral(bound: Bound, header: Header) -> bool:
    """A resize to the size it has, a fill of what is opaque."""
    step: Step = bound.step
    if isinstance(step, Orient):
        return step.mode in ("exif", 1)
    if isinstance(step, Flatten):
        return not header.alpha
    same = (bound.before.width, bound.before.height) == bound.size
    return isinstance(step, Fit | Crop) and same and bound.scaled == bound.size


def _stripped(header: Header) -> bytes | None:
    """The original without what is no picture; None if that cannot be had, or is not what a decoder likes."""
    body = strip(header.format, Path(header.path).read_bytes())
    return body if body is not None and _is_sound(body, header) else None


def _is_sound(body: bytes, header: Header) -> bool:
    """Decodes what will be sent as strictly as there is: also in warnings something may hide."""
    load = getattr(Image, LOADERS[header.format][1] + "_buffer")
    options = {"n": -1} if header.animated else {}
    try:
        image = load(body, fail_on="warning", access="sequential", **options)
        image.avg()
    except Error:
        return False
    return (image.width, image.height) == (header.dims.width, header.dims.height * max(1, image.get_n_pages()))
