"""A result that is no larger than the original, or that says why it is.

A render already answers with the compressed pixels of the original where they are smaller (engine/original_bytes.py):
only if the request asks for no other size, format or metadata, if they look right without orientation and profile, and
if the stripped file decodes without a warning. Otherwise a larger result is the answer, and its `reason` says why:

    options      the plan changes pixels, or asks for metadata or a way of encoding
    format       the request asks for another format, or not every client shows the original's
    orientation  the original has an EXIF orientation that must be applied
    profile      the original's colors need its profile
    container    the image data cannot be separated from the rest of the file
"""

from dataclasses import replace

from imgserver.engine.appended import left_out
from imgserver.engine.header import examine
from imgserver.engine.job import Job, RenderResult
from imgserver.engine.original_bytes import reason_to_encode
from imgserver.engine.render import render


def optimize(job: Job) -> RenderResult:
    """Renders the job; the result is no larger than the original, or says why it is. Raises what `render` raises."""
    result = _rendered(job)
    return replace(result, left_out=left_out(job.path, result.source_format))


def _rendered(job: Job) -> RenderResult:
    """The result with its outcome."""
    result = render(job)
    if job.plan.terminal.kind != "image" or len(result.body) <= result.source_bytes:
        return result
    reason = reason_to_encode(examine(job.path, job.limits), job.plan, result.size.frames)
    return replace(result, outcome="larger", reason=reason or "container")
