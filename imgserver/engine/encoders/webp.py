"""WebP, stills and animations.

A still of at most 256 colors, such as a drawing or a screenshot, is often smaller without loss: 30 % of the bytes of a
drawing of 64 colors. It is encoded both ways, and the smaller file is the result. Photographs are encoded once.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imgserver.engine.encoders.palette import palette_bits
from imgserver.engine.encoders.saver import SaverEncoder, effort_of
from imgserver.engine.job import Quality
from imgserver.plan.formats import quality_of
from imgserver.plan.plan import Output

if TYPE_CHECKING:
    from imgserver.engine.vips import Image


def _options(_: "Image", output: Output, quality: Quality) -> dict[str, Any]:
    effort = effort_of(output, quality.webp_effort, highest=6)
    return {"Q": quality_of(output, "webp"), "lossless": output.lossless, "effort": effort}


class WebpEncoder(SaverEncoder):
    """Satisfies `Encoder`."""

    def encode(self, image: "Image", *, output: Output, quality: Quality, keep: int) -> bytes:
        body = SaverEncoder.encode(self, image, output=output, quality=quality, keep=keep)
        if output.lossless or image.get_page_height() != image.height or palette_bits(image) is None:
            return body
        exact = replace(output, lossless=True)
        return min(body, SaverEncoder.encode(self, image, output=exact, quality=quality, keep=keep), key=len)


WEBP = WebpEncoder("webpsave_buffer", _options)
