"""TIFF, compressed without loss."""

from typing import TYPE_CHECKING, Any

from imgserver.engine.encoders.saver import SaverEncoder
from imgserver.engine.job import Quality
from imgserver.plan.plan import Output

if TYPE_CHECKING:
    from imgserver.engine.vips import Image


def _options(_: "Image", __: Output, ___: Quality) -> dict[str, Any]:
    return {"compression": "lzw", "predictor": "horizontal"}


TIFF = SaverEncoder("tiffsave_buffer", _options)
