"""TIFF, compressed without loss."""

from typing import Any

from imgserver.engine.encoders.saver import SaverEncoder
from imgserver.engine.job import Quality
from imgserver.plan.plan import Output


def _options(_: Output, __: Quality, ___: int) -> dict[str, Any]:
    return {"compression": "lzw", "predictor": "horizontal"}


TIFF = SaverEncoder("tiffsave_buffer", _options)
