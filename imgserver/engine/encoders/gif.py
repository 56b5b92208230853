"""GIF, stills and animations."""

from typing import Any

from imgserver.engine.encoders.saver import SaverEncoder, effort_of
from imgserver.engine.job import Quality
from imgserver.plan.plan import Output

# How hard the quantizer searches for a palette, of 10.
EFFORT = 4


def _options(output: Output, _: Quality, __: int) -> dict[str, Any]:
    effort = max(1, effort_of(output, EFFORT, highest=10))
    return {"effort": effort, "interlace": bool(output.progressive)}


GIF = SaverEncoder("gifsave_buffer", _options)
