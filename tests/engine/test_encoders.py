"""Every built-in encoder keeps the contract of encoders."""

from imgserver.engine import ENCODERS
from imgserver.plan.formats import FORMATS
from imgserver.testing import EncoderContract


class TestJpeg(EncoderContract):
    format = "jpg"


class TestPng(EncoderContract):
    format = "png"


class TestWebp(EncoderContract):
    format = "webp"


class TestAvif(EncoderContract):
    format = "avif"


class TestGif(EncoderContract):
    format = "gif"


class TestTiff(EncoderContract):
    format = "tiff"


def test_every_encoder_has_a_row_and_a_contract() -> None:
    tested = {contract.format for contract in EncoderContract.__subclasses__() if contract.__module__ == __name__}

    assert tested == set(ENCODERS) == {name for name, row in FORMATS.items() if row.writable}
