"""Writing the result. What each encoder is told, and why.

Measured on four photographs, CPU on one core, JPEG q80 (`python -m benchmarks.quality --encoders` prints it):

- `quant_table=3` (tuned by psychovisual tests) is 5-7 % smaller than the standard's table at the same quality number,
  scores as high at 800 px and 4 points higher at 300, and costs nothing: always on.
- Optimized Huffman tables: 1-3 % (12 % at 100 px) for 2 ms at 800 px: on.
- Progressive scans: 2 % at 300 px, 4 % at 800 for another 4 ms, larger at 100: on from PROGRESSIVE_PIXELS.
- mozjpeg's trellis: 9 % fewer bytes, but also 1.7 points (2.5 at 300 px) lower, worth most of those bytes by itself,
  and 21 ms more on 8. It does not pay in a live answer: only from effort JPEG_TRELLIS_EFFORT up, for background work.
"""

from dataclasses import dataclass
from typing import Any

from imgserver.engine.color import background
from imgserver.engine.frames import Picture
from imgserver.engine.header import over
from imgserver.engine.job import Limits, Quality
from imgserver.engine.metadata import stripped
from imgserver.engine.vips import SAVERS, GInt, GInts, Image, reading, working
from imgserver.errors import OutputOverLimit
from imgserver.plan.formats import FORMATS, quality_of
from imgserver.plan.plan import Output

PROGRESSIVE_PIXELS = 100_000
JPEG_TRELLIS_EFFORT = 5
# Up to here the finished pixels are kept before encoding, so that a broken source shows before the encoder starts.
SETTLED_PIXELS = 8_000_000
# AVIF beyond this is not for live answers at any effort.
AVIF_PIXELS = 12_000_000
PNG_COMPRESSION = 6
GIF_EFFORT = 4


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image as the saver takes it, all pixels done unless it is too large to be kept, and the saver's options."""

    image: Image
    format: str
    options: dict[str, Any]


def prepare(picture: Picture, name: str, output: Output, quality: Quality) -> Prepared:
    """Decodes and does all steps. Raises BrokenImage if the source turns out truncated, and OutputOverLimit."""
    _refuse_size(picture, name)
    with working():
        image, options = _prepared(picture, name, output)
    pixels = picture.width * picture.height
    return Prepared(settled(image), name, options | _options(name, pixels, output, quality))


def write(prepared: Prepared, limits: Limits) -> bytes:
    """The body. Raises ImageOverLimit, and BrokenImage for a large source that turns out truncated only now."""
    save = getattr(prepared.image, SAVERS[prepared.format])
    with working() if _kept_in_memory(prepared.image) else reading():
        body = bytes(save(**prepared.options))
    if len(body) > limits.result_bytes:
        raise over("result bytes", len(body), limits.result_bytes)
    return body


def settled(image: Image) -> Image:
    """All decoding and all steps done, if the result is not too large to be kept."""
    if not _kept_in_memory(image):
        return image
    with reading():
        return image.copy_memory()


def _kept_in_memory(image: Image) -> bool:
    return bool(image.width * image.height <= SETTLED_PIXELS)


def _prepared(picture: Picture, name: str, output: Output) -> tuple[Image, dict[str, Any]]:
    """One image for the saver: frames stacked, flattened where the format has no alpha, metadata as asked."""
    if picture.alpha and not FORMATS[name].alpha:
        ground = background(picture.first, output.background)[:-1]
        picture = picture.each(lambda image: image.flatten(background=ground))
    image, keep = stripped(picture.strip(), output)
    if len(picture.frames) == 1:
        for field in ("page-height", "n-pages", "delay", "loop"):
            image.remove(field)
        return image, {"keep": keep}
    image.set_type(GInt, "page-height", picture.height)
    image.set_type(GInt, "loop", picture.loop)
    image.set_type(GInts, "delay", list(picture.delays))
    return image, {"keep": keep, "page_height": picture.height}


def _refuse_size(picture: Picture, name: str) -> None:
    """The format's own limits, which no setting can lift."""
    limit = FORMATS[name].max_side
    if max(picture.width, picture.height) > limit:
        allowed = f"sides up to {limit} px"
    elif name == "avif" and picture.width * picture.height > AVIF_PIXELS:
        allowed = f"{AVIF_PIXELS} pixels"
    else:
        return
    size = f"{picture.width}×{picture.height}"
    raise OutputOverLimit(
        f"{name}: {size} is over the format's limit; {allowed}", argument="f", value=size, allowed=allowed
    )


def _options(name: str, pixels: int, output: Output, quality: Quality) -> dict[str, Any]:
    match name:
        case "jpg":
            return _jpg(pixels, output, quality)
        case "avif":
            return _avif(pixels, output, quality)
        case "webp":
            effort = _effort(output, quality.webp_effort, highest=6)
            return {"Q": quality_of(output, "webp"), "lossless": output.lossless, "effort": effort}
        case "png":
            return {"compression": PNG_COMPRESSION, "interlace": bool(output.progressive)}
        case "gif":
            return {"effort": max(1, _effort(output, GIF_EFFORT, highest=10)), "interlace": bool(output.progressive)}
        case _:
            return {"compression": "lzw", "predictor": "horizontal"}


def _jpg(pixels: int, output: Output, quality: Quality) -> dict[str, Any]:
    slow = (output.effort or 0) >= JPEG_TRELLIS_EFFORT
    progressive = pixels >= PROGRESSIVE_PIXELS if output.progressive is None else output.progressive
    return {
        "Q": quality_of(output, "jpg"),
        "quant_table": 3,
        "optimize_coding": quality.jpeg_optimize,
        "interlace": progressive,
        "trellis_quant": slow,
        "overshoot_deringing": slow,
        "optimize_scans": slow and progressive,
    }


def _avif(pixels: int, output: Output, quality: Quality) -> dict[str, Any]:
    """libvips' own effort of 4 costs 10-40 times effort 0 for 13 % fewer bytes."""
    return {
        "Q": quality_of(output, "avif"),
        "lossless": output.lossless,
        "effort": _effort(output, quality.avif_effort_for(pixels), highest=9),
        "compression": "av1",
        "bitdepth": 8,
    }


def _effort(output: Output, budget: int, *, highest: int) -> int:
    return min(highest, budget if output.effort is None else output.effort)
