"""GIF, stills and animations.

The palette has as many colors as that of the original, but at least sixteen: edges between scaled areas need colors of
their own. With 256 colors a drawing of 64 colors at 75 % of its width would take 1.4 times the bytes, and score 95
instead of 91 points of SSIMULACRA2.
"""

from typing import TYPE_CHECKING, Any

from imgserver.engine.encoders.palette import source_bits
from imgserver.engine.encoders.saver import SaverEncoder, effort_of
from imgserver.engine.job import Quality
from imgserver.plan.plan import Output

if TYPE_CHECKING:
    from imgserver.engine.vips import Image

# How hard the quantizer searches for a palette, of 10.
EFFORT = 4
LEAST_BITS = 4


def _options(image: "Image", output: Output, _: Quality) -> dict[str, Any]:
    effort = max(1, effort_of(output, EFFORT, highest=10))
    bits = source_bits(image) if image.bands >= 3 else None
    return {"effort": effort, "interlace": bool(output.progressive), "bitdepth": max(LEAST_BITS, min(8, bits or 8))}


GIF = SaverEncoder("gifsave_buffer", _options)
