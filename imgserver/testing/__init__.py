"""Contracts for plug-ins, and fakes.

A contract is a class of tests. To test a dialect, a source, an origin, a cache tier or an encoder, subclass its
contract in your tests and provide the object under test.
"""

from imgserver.testing.cache import TierContract
from imgserver.testing.dialects import DialectContract
from imgserver.testing.encoders import EncoderContract, make_image
from imgserver.testing.fake_origin import FakeOrigin
from imgserver.testing.renditions import make_rendition
from imgserver.testing.sources import OriginContract, SourceContract, fetched

__all__ = [
    "DialectContract",
    "EncoderContract",
    "FakeOrigin",
    "OriginContract",
    "SourceContract",
    "TierContract",
    "fetched",
    "make_image",
    "make_rendition",
]
