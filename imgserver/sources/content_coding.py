"""Content codings of a response (RFC 9110, 8.4.1).

The requests accept none, but servers compress nevertheless, and write into Content-Encoding what is no coding: the name
of a character set, or the framing of an upload.
"""

import zlib
from collections.abc import Iterator

from imgserver.errors import SourceFailed
from imgserver.sources.origin import BodySink

# Codings that are known and not decoded here. What is in neither table is no content coding, and is ignored.
REFUSED = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip"})
GZIP, ZLIB, RAW_DEFLATE = 31, 15, -15
WINDOWS = {"gzip": GZIP, "x-gzip": GZIP, "deflate": ZLIB}
# Each costs the memory of a decoder; nobody compresses more often.
MAX_CODINGS = 3
CHUNK_BYTES = 1 << 16


def codings_of(field: str) -> tuple[str, ...]:
    """The codings of a Content-Encoding, in the order in which they were applied. Raises SourceFailed for codings that
    are not decoded here."""
    names = [name.strip().lower() for name in field.split(",")]
    refused = next((name for name in names if name in REFUSED), None)
    if refused is not None:
        raise SourceFailed(f"the original's server compressed its response with {refused} although nothing accepts it")
    codings = tuple(name for name in names if name in WINDOWS)
    if len(codings) > MAX_CODINGS:
        raise SourceFailed("the original's server compressed its response too often")
    return codings


class DecodingSink:
    """Decodes a body on its way to `sink`, in chunks of at most CHUNK_BYTES, so that the sink can refuse a body that is
    larger than it announces. Call `close` after the last byte."""

    def __init__(self, codings: tuple[str, ...], sink: BodySink) -> None:
        self._decoders = [_Decoder(WINDOWS[name]) for name in reversed(codings)]
        self._sink = sink

    async def __call__(self, data: bytes) -> None:
        """Raises SourceFailed for a malformed body, and what the sink raises."""
        for chunk in self._decoded(data, 0):
            await self._sink(chunk)

    def close(self) -> None:
        """Raises SourceFailed if the body ended early."""
        if not all(decoder.ended for decoder in self._decoders):
            raise SourceFailed("the original's server sent an incomplete compressed body")

    def _decoded(self, data: bytes, number: int) -> Iterator[bytes]:
        if number == len(self._decoders):
            yield data
            return
        for chunk in self._decoders[number].decoded(data):
            yield from self._decoded(chunk, number + 1)


class _Decoder:
    def __init__(self, window: int) -> None:
        self._window = window
        self._inflate = zlib.decompressobj(window)
        self._begun = False

    @property
    def ended(self) -> bool:
        return self._inflate.eof

    def decoded(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate.eof:
                if self._window != GZIP or not data.startswith(b"\x1f"):
                    return  # padding
                self._inflate = zlib.decompressobj(self._window)  # a further member (RFC 1952, 2.2)
            chunk = self._inflated(data)
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            if chunk:
                yield chunk
        while not self._inflate.eof and (chunk := self._inflated(b"")):
            yield chunk

    def _inflated(self, data: bytes) -> bytes:
        try:
            chunk = self._inflate.decompress(data, CHUNK_BYTES)
        except zlib.error as error:
            if self._begun or self._window != ZLIB:
                raise SourceFailed("the original's server sent a malformed compressed body") from error
            # Some servers leave out the zlib header of `deflate` (RFC 9110, 8.4.1.2).
            self._window, self._inflate = RAW_DEFLATE, zlib.decompressobj(RAW_DEFLATE)
            return self._inflated(data)
        self._begun = True
        return chunk
