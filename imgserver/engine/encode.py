"""The last stage of a render: the image as an encoder takes it, then the file."""

from dataclasses import dataclass

from imgserver.engine.color import flattened
from imgserver.engine.encoders import ENCODERS
from imgserver.engine.encoders.palette import is_in_memory
from imgserver.engine.frames import Frames
from imgserver.engine.job import Limits, Quality, over
from imgserver.engine.metadata import stripped
from imgserver.engine.output_shape import refuse_size
from imgserver.engine.vips import GInt, GInts, Image, reading, working
from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import Output

# libvips sets it for an original with a palette.
PALETTE_FIELD = "palette"
ANIMATION_FIELDS = ("page-height", "n-pages", "delay", "loop")


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image that is ready for its encoder. The pixels are computed, unless the image is too large for memory.

    `keep` are the keep flags for its metadata.
    """

    image: Image
    format: str
    output: Output
    quality: Quality
    keep: int


def prepare(frames: Frames, name: str, output: Output, quality: Quality, *, reduce_colors: bool = False) -> Prepared:
    """Decodes the original and runs all steps. `name` is the format to write. `reduce_colors`: it may get a palette, as
    if the original had one.

    Raises OutputOverLimit before any pixel is computed, and BrokenImage if the original is truncated.
    """
    refuse_size(name, frames.width, frames.height, output)
    with working():
        image, keep = _joined(frames, name, output)
        if reduce_colors:
            image.set_type(GInt, PALETTE_FIELD, 1)
    return Prepared(in_memory(image), name, output, quality, keep)


def write(prepared: Prepared, limits: Limits) -> bytes:
    """The file. Raises ImageOverLimit, and BrokenImage for a large original that is only now found truncated."""
    encoder = ENCODERS[prepared.format]
    with working() if is_in_memory(prepared.image) else reading():
        body = encoder.encode(prepared.image, output=prepared.output, quality=prepared.quality, keep=prepared.keep)
    if len(body) > limits.result_bytes:
        raise over("result bytes", len(body), limits.result_bytes)
    return body


def in_memory(image: Image) -> Image:
    """The image with all its pixels computed; the same lazy image if it is too large for memory.

    Raises BrokenImage.
    """
    if not is_in_memory(image):
        return image
    with reading():
        return image.copy_memory()


def _joined(frames: Frames, name: str, output: Output) -> tuple[Image, int]:
    """One image for the encoder: frames below each other, without alpha if the format has none, and with only the
    metadata that it may keep. Returns the keep flags as well."""
    if not FORMATS[name].alpha:
        frames = frames.each(lambda image: flattened(image, output.background))
    image, keep = stripped(frames.joined(), output)
    if len(frames.images) == 1:
        for field in ANIMATION_FIELDS:
            image.remove(field)
        return image, keep
    image.set_type(GInt, "page-height", frames.height)
    image.set_type(GInt, "loop", frames.loop)
    image.set_type(GInts, "delay", list(frames.delays))
    return image, keep
