"""One job in, one result out."""

import hashlib
import resource
import time
from dataclasses import replace
from typing import Any

import orjson

from imgserver.engine.byte_bound import no_larger_than_original
from imgserver.engine.encode import in_memory, prepare, write
from imgserver.engine.header import Header, examine
from imgserver.engine.job import Job, RenderResult, Timings
from imgserver.engine.original_bytes import smaller_original
from imgserver.engine.output_shape import OutputShape, outline, page_of
from imgserver.engine.pipeline import run_steps
from imgserver.engine.placeholder import JSON, SIDES, make_placeholder
from imgserver.engine.vips import forget_warnings
from imgserver.plan.formats import FORMATS
from imgserver.plan.geometry import BoundPlan
from imgserver.plan.plan import Dims, Fit, Plan, Px

ETAG_BYTES = 16


def render(job: Job) -> RenderResult:
    """Renders a local file as its plan says. Call `open_engine` once before.

    Raises NotFound, UnsupportedImage (415), BrokenImage, ImageOverLimit and FramesLost (422), BadRequest and
    OutputOverLimit (400), NotInThisBuild (501), ServerFault; never an error of libvips.
    """
    watch = Stopwatch()
    forget_warnings()
    plan = _with_placeholder_size(job.plan)
    header = examine(job.path, job.limits, page=page_of(plan.output))
    shape, bounds = outline(header, plan, job.limits, keep_frames=job.goal == "optimize")
    decode = watch.lap()
    if plan.terminal.kind == "info":
        info = _info(header, shape, bounds, job.version)
        return _result(header, info, JSON, bounds.after, watch.timings(decode=decode))
    frames = run_steps(header, bounds, replace(job, plan=plan), frame_count=shape.frames)
    size = Dims(frames.width, frames.height, 1, len(frames.images))
    if plan.terminal.kind == "image":
        prepared = prepare(frames, shape.format, plan.output, job.quality, reduce_colors=shape.reduce_colors)
        transform = watch.lap()
        body = write(prepared, job.limits)
        original = smaller_original(header, plan, size.frames, than=len(body))
        if original is not None:
            return _original(header, original, watch.timings(decode, transform, watch.lap()))
        body = no_larger_than_original(body, prepared, header, job.limits)
        timings = watch.timings(decode, transform, watch.lap())
        return _result(header, body, FORMATS[shape.format].media_type, size, timings)
    image = in_memory(frames.first)
    transform = watch.lap()
    body, media_type = make_placeholder(image, plan.terminal)
    return _result(header, body, media_type, size, watch.timings(decode, transform, watch.lap()))


class Stopwatch:
    """Wall seconds of each stage, and CPU seconds since the start."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Wall seconds since the last call, or since the start."""
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed

    def timings(self, decode: float, transform: float = 0.0, encode: float = 0.0) -> Timings:
        """The stages' wall seconds with the CPU seconds and the peak memory of this process."""
        return Timings(
            decode_seconds=decode,
            transform_seconds=transform,
            encode_seconds=encode,
            cpu_seconds=time.process_time() - self._cpu,
            rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )


def etag_of(body: bytes) -> str:
    """A 128-bit digest in hex, unquoted."""
    return hashlib.blake2b(body, digest_size=ETAG_BYTES).hexdigest()


def _with_placeholder_size(plan: Plan) -> Plan:
    """A placeholder is computed from a small image, whatever the plan's size. As a last Fit the small size lets the
    decoder shrink on load."""
    side = SIDES.get(plan.terminal.kind)
    if side is None:
        return plan
    return replace(plan, steps=(*plan.steps, Fit(Px(side), Px(side))))


def _info(header: Header, shape: OutputShape, bounds: BoundPlan, version: str) -> bytes:
    """The original and its result as JSON, without the place, the author or the camera of the photograph."""
    dims = header.dims
    original: dict[str, Any] = {
        "format": header.format,
        "media_type": FORMATS[header.format].media_type,
        "width": dims.width,
        "height": dims.height,
        "orientation": dims.orientation,
        "frames": header.file_frames,
        "animated": header.is_animation,
        "alpha": header.alpha,
        "profile": header.profile,
        "bytes": header.bytes,
        # For the query of URLs that may be cached for a year.
        "version": version or None,
    }
    output: dict[str, Any] = {
        "format": shape.format,
        "media_type": FORMATS[shape.format].media_type,
        "width": bounds.after.width,
        "height": bounds.after.height,
        "frames": bounds.after.frames,
        # The size after a trim is known only when the pixels are.
        "exact": not bounds.is_partial,
    }
    return orjson.dumps({"original": original, "output": output}, option=orjson.OPT_INDENT_2)


def _original(header: Header, body: bytes, timings: Timings) -> RenderResult:
    """The result that consists of the compressed pixels of the original."""
    size = replace(header.dims, orientation=1)
    return replace(_result(header, body, FORMATS[header.format].media_type, size, timings), outcome="original")


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
