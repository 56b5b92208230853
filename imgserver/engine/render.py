"""One job in, one result out: the story a worker tells."""

import hashlib
import resource
import time
from dataclasses import dataclass, replace
from typing import Any

import orjson

from imgserver.engine.encode import AVIF_PIXELS, prepare, settled, write
from imgserver.engine.header import Header, examine, refuse_over
from imgserver.engine.job import Job, RenderResult, Timings
from imgserver.engine.pipeline import develop
from imgserver.engine.placeholder import JSON, SIDES, stand_in
from imgserver.plan.formats import FORMATS, choose
from imgserver.plan.geometry import BoundPlan, bind_plan, check
from imgserver.plan.plan import Canvas, Color, Dims, Fit, Flatten, Mask, Output, Plan, Px, Step, Tone, Turn

# What a job will produce, decided from header and plan alone: page, frames, alpha, format. No pixel is read.


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
            case Fit(finish="pad", fill=Color(alpha=opacity)) | Canvas(fill=Color(alpha=opacity)):
                alpha = alpha or opacity < 255
            case Turn(degrees=degrees, fill=fill) if degrees % 90:
                alpha = not (isinstance(fill, Color) and fill.alpha == 255)
            case _:
                pass
    return alpha


ETAG_BYTES = 16


class Stopwatch:
    """Wall seconds between laps, and CPU seconds since the start."""

    def __init__(self) -> None:
        self.cpu = time.process_time()
        self.last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        passed, self.last = now - self.last, now
        return passed


def render(job: Job) -> RenderResult:
    """Renders a local file as its plan says. `open_engine` must have been called.

    Raises NotFound, UnsupportedImage (415), BrokenImage and ImageOverLimit (422), BadRequest and OutputOverLimit (400),
    NotInThisBuild (501), ServerFault; never an error of libvips.
    """
    watch = Stopwatch()
    plan = _bounded(job.plan)
    header = examine(job.path, job.limits, page=page_of(plan.output))
    shape, bounds = _outlined(header, plan, job)
    opened = watch.lap()
    if plan.terminal.kind == "info":
        body, media_type, size = _info(header, shape, bounds), JSON, bounds.after
        return _result(header, body, media_type, size, _timings(watch, decode=opened))
    picture = develop(header, bounds, replace(job, plan=plan), frames=shape.frames)
    size = Dims(picture.width, picture.height, 1, len(picture.frames))
    if plan.terminal.kind == "image":
        prepared = prepare(picture, shape.format, plan.output, job.quality)
        developed = watch.lap()
        body, media_type = write(prepared, job.limits), FORMATS[shape.format].media_type
    else:
        image = settled(picture.first)
        developed = watch.lap()
        body, media_type = stand_in(image, plan.terminal)
    timings = _timings(watch, decode=opened, transform=developed, encode=watch.lap())
    return _result(header, body, media_type, size, timings)


def _bounded(plan: Plan) -> Plan:
    """A placeholder is told from a small picture, whatever the plan's own size: that is the loader's chance."""
    side = SIDES.get(plan.terminal.kind)
    if side is None:
        return plan
    return replace(plan, steps=(*plan.steps, Fit(Px(side), Px(side))))


def _outlined(header: Header, plan: Plan, job: Job) -> tuple[Shape, BoundPlan]:
    """Frames, format and sizes; all limits are judged here."""
    shape = shape_of(header, plan)
    refuse_over(header, shape.frames, job.limits)
    bounds = bind_plan(plan, replace(header.dims, frames=shape.frames))
    check(bounds, side=job.limits.output_side, pixels=job.limits.output_pixels)
    if shape.format == "avif" and plan.output.format == "auto" and _pixels(bounds) > AVIF_PIXELS:
        offers = tuple(name for name in plan.output.offers if name != "avif")
        shape = shape_of(header, replace(plan, output=replace(plan.output, offers=offers)))
    return shape, bounds


def _pixels(bounds: BoundPlan) -> int:
    return bounds.after.width * bounds.after.height


def _info(header: Header, shape: Shape, bounds: BoundPlan) -> bytes:
    """The original, and what it would become; nothing of where, by whom or with which camera it was taken."""
    dims = header.dims
    original: dict[str, Any] = {
        "format": header.format,
        "media_type": FORMATS[header.format].media_type,
        "width": dims.width,
        "height": dims.height,
        "orientation": dims.orientation,
        "frames": dims.frames,
        "animated": header.animated,
        "alpha": header.alpha,
        "profile": header.profile,
        "bytes": header.bytes,
    }
    becomes: dict[str, Any] = {
        "format": shape.format,
        "media_type": FORMATS[shape.format].media_type,
        "width": bounds.after.width,
        "height": bounds.after.height,
        "frames": bounds.after.frames,
        # What a trim leaves is known only when it is done.
        "exact": not bounds.is_open,
    }
    return orjson.dumps({"original": original, "output": becomes}, option=orjson.OPT_INDENT_2)


def _timings(watch: Stopwatch, *, decode: float, transform: float = 0.0, encode: float = 0.0) -> Timings:
    return Timings(
        decode_seconds=decode,
        transform_seconds=transform,
        encode_seconds=encode,
        cpu_seconds=time.process_time() - watch.cpu,
        rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def etag_of(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=ETAG_BYTES).hexdigest()


def _result(header: Header, body: bytes, media_type: str, size: Dims, timings: Timings) -> RenderResult:
    return RenderResult(
        body=body,
        media_type=media_type,
        etag=etag_of(body),
        size=size,
        source_format=header.format,
        source_size=header.dims,
        source_bytes=header.bytes,
        timings=timings,
    )
