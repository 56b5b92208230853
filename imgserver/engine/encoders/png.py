"""PNG."""

from typing import Any

from imgserver.engine.encoders.saver import SaverEncoder
from imgserver.engine.job import Quality
from imgserver.plan.plan import Output

# zlib's level, of 9.
COMPRESSION = 6


def _options(output: Output, _: Quality, __: int) -> dict[str, Any]:
    return {"compression": COMPRESSION, "interlace": bool(output.progressive)}


PNG = SaverEncoder("pngsave_buffer", _options)
