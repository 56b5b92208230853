"""WebP, stills and animations."""

from typing import Any

from imgserver.engine.encoders.saver import SaverEncoder, effort_of
from imgserver.engine.job import Quality
from imgserver.plan.formats import quality_of
from imgserver.plan.plan import Output


def _options(output: Output, quality: Quality, _: int) -> dict[str, Any]:
    effort = effort_of(output, quality.webp_effort, highest=6)
    return {"Q": quality_of(output, "webp"), "lossless": output.lossless, "effort": effort}


WEBP = SaverEncoder("webpsave_buffer", _options)
