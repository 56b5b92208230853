"""JPEG by mozjpeg or libjpeg-turbo: which options, and why.

Measured on four photographs, CPU on one core, quality 80 (`python -m benchmarks.quality --encoders` prints it):

- `quant_table=3` (tuned by psychovisual tests) is 5-7 % smaller than the standard's table at the same quality number.
  It scores as high at 800 px, 4 points higher at 300 px, and costs nothing: always on.
- Optimized Huffman tables: 1-3 % smaller (12 % at 100 px) for 2 ms at 800 px: on.
- Progressive scans: 2 % smaller at 300 px, 4 % at 800 px for another 4 ms, larger at 100 px: on from
  PROGRESSIVE_PIXELS.
- mozjpeg's trellis quantization: 9 % smaller, but also 1.7 points lower (2.5 at 300 px), which is worth most of those
  bytes, and it takes 21 ms more on top of 8 ms. It does not pay in a live answer: only from effort TRELLIS_EFFORT up,
  for background work.
"""

from typing import TYPE_CHECKING, Any

from imgserver.engine.encoders.saver import SaverEncoder, frame_pixels
from imgserver.engine.job import Quality
from imgserver.plan.formats import quality_of
from imgserver.plan.plan import Output

if TYPE_CHECKING:
    from imgserver.engine.vips import Image

PROGRESSIVE_PIXELS = 100_000
TRELLIS_EFFORT = 5


def _options(image: "Image", output: Output, quality: Quality) -> dict[str, Any]:
    slow = (output.effort or 0) >= TRELLIS_EFFORT
    progressive = frame_pixels(image) >= PROGRESSIVE_PIXELS if output.progressive is None else output.progressive
    return {
        "Q": quality_of(output, "jpg"),
        "quant_table": 3,
        "optimize_coding": quality.jpeg_optimize,
        "interlace": progressive,
        "trellis_quant": slow,
        "overshoot_deringing": slow,
        "optimize_scans": slow and progressive,
    }


JPEG = SaverEncoder("jpegsave_buffer", _options)
