"""Images inside an SVG: data URLs, judged before librsvg decodes them."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from imgserver.engine.job import Limits, over
from imgserver.plan.sniffing import HEAD_BYTES, sniff
from imgserver.runtime.resources import MIB

# Bytes of one decoded pixel.
PIXEL_BYTES = 4
# What librsvg decodes in the supported builds.
DECODED = frozenset({"png", "jpg"})
# The text of an SVG and of all SVGs inside it: inflated, and with its entities expanded.
TEXT_BYTES = 16 * MIB


class Budget:
    """What one SVG may contain: bytes of text, and pixels in all its images together, which may have as many as one
    original."""

    def __init__(self, limits: Limits) -> None:
        self._max_pixels = min(limits.source_pixels, limits.decoded_bytes // PIXEL_BYTES)
        self._pixels = self._text_bytes = 0

    def take_text(self, length: int) -> None:
        """Raises ImageOverLimit."""
        self._text_bytes += length
        if self._text_bytes > TEXT_BYTES:
            raise over("svg text bytes", self._text_bytes, TEXT_BYTES)

    @property
    def text_bytes_left(self) -> int:
        return TEXT_BYTES - self._text_bytes

    def admit(self, image: bytes) -> bool:
        """Whether librsvg may decode the image. Raises ImageOverLimit if it has too many pixels."""
        seen = sniff(image[:HEAD_BYTES])
        if seen.format not in DECODED or not seen.pixels:
            return False
        self._pixels += seen.pixels
        if self._pixels > self._max_pixels:
            raise over("pixels of images inside the svg", self._pixels, self._max_pixels)
        return True


def content_of(url: str) -> bytes:
    """The content of a `data:` URL (RFC 2397); empty if the URL is malformed."""
    header, _, data = url.partition(",")
    raw = unquote_to_bytes(data)
    if not header.rstrip().lower().endswith(";base64"):
        return raw
    try:
        return base64.b64decode(b"".join(raw.split()) + b"==")
    except binascii.Error:
        return b""
