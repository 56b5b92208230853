"""A bound for the bytes of a result: those of its original.

An original of low quality that is encoded at the quality of a level becomes larger and no better. So where the URL
gives no number for the quality, the quality is lowered until the result is no larger than the original. This holds for
a result in a lossy format that is at least as efficient as the original's, with no more pixels. Another lossy format,
more pixels, or a format without loss may need more bytes.
"""

import math
from dataclasses import replace
from pathlib import Path

from imgserver.engine.encode import Prepared, write
from imgserver.engine.encoders.palette import is_in_memory
from imgserver.engine.header import Header
from imgserver.engine.job import Limits
from imgserver.plan.formats import FORMATS, quality_of

# Lossy formats by the bytes that they need for the same quality, from most to least.
EFFICIENCY = {"jpg": 0, "webp": 1, "avif": 2, "heic": 2}
# By how much one step of the quality changes the logarithm of the size: measured on photographs from quality 20 to 80.
STEP = {"jpg": 0.018, "webp": 0.013, "avif": 0.04}
LEAST_QUALITY = 10
ATTEMPTS = 3
# The chunk of a lossless WebP begins here, unless a long profile precedes it.
WEBP_HEAD = 4096


def no_larger_than_original(body: bytes, prepared: Prepared, header: Header, limits: Limits) -> bytes:
    """`body`, the file of `prepared`, or that file encoded again with less quality if `body` is larger than the
    original. Raises what `write` raises."""
    if len(body) <= header.bytes or not _is_bounded(prepared, header):
        return body
    if header.format == "webp" and _is_lossless(header):
        exact = replace(prepared, output=replace(prepared.output, lossless=True))
        return min(body, write(exact, limits), key=len)
    quality = quality_of(prepared.output, prepared.format)
    for _ in range(ATTEMPTS):
        excess = math.log(len(body) / header.bytes)
        quality = max(LEAST_QUALITY, quality - math.ceil(excess / STEP[prepared.format]) - 1)
        body = write(replace(prepared, output=replace(prepared.output, quality=quality)), limits)
        if len(body) <= header.bytes or quality == LEAST_QUALITY:
            break
    return body


def _is_bounded(prepared: Prepared, header: Header) -> bool:
    output, image = prepared.output, prepared.image
    if isinstance(output.quality, int) or output.lossless or prepared.format not in STEP:
        return False
    if EFFICIENCY[prepared.format] < EFFICIENCY.get(header.format, len(FORMATS)) or not is_in_memory(image):
        return False
    return bool(image.width * image.height <= header.dims.width * header.dims.height * header.dims.frames)


def _is_lossless(header: Header) -> bool:
    with Path(header.path).open("rb") as file:
        return b"VP8L" in file.read(WEBP_HEAD)
