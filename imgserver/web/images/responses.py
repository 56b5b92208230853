"""The responses of the image handler, and the one function that composes their heads.

A head is the status line and the header lines. On the fast path and on the framework's way it consists of the same
parts: the start (`serialize`), which is the same for all requests of one second, and the lines of one request
(`compose_head`). aiohttp would copy and check a dictionary for each response instead.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

# A body larger than this is written chunk by chunk, each when the client has read enough of the previous ones. A body
# that is written at once stays in the buffer of the connection: a hundred clients that do not read would hold a hundred
# copies, and the event loop would make these copies.
CHUNK_BYTES: Final = 256 << 10


class ImageResponse(web.StreamResponse):
    """The response to a request for an image that takes the framework's way.

    `outcome` is the value of the metric `lookups_total`, `start` the serialized start of the head, `length` the number
    of body bytes that a GET receives, `event_fields` further fields of its event in the access log. The middleware
    sets `request_id` and `cors_lines`.
    """

    def __init__(
        self, status: int, outcome: str, start: bytes, body: bytes, event_fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(status=status)
        self.outcome, self.length = outcome, len(body)
        self.request_id, self.cors_lines = "", b""
        self.event_fields = event_fields
        self._start_of_head = start
        self.content = body
        self._is_last = False
        self._persistent: bool | None = None
        self._out: AbstractStreamWriter | None = None
        self._head = b""

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open; None before `prepare`."""
        return self._persistent

    def force_close(self) -> None:
        """Call it before `prepare`: the connection is closed after this response."""
        self._is_last = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._out, self._persistent = request.writer, request.keep_alive and not self._is_last
        if request.method == hdrs.METH_HEAD:
            self.content = b""
        connection = _connection_line(request.version, self._persistent)
        head = compose_head(self._start_of_head, self.request_id, self.cors_lines + connection)
        self._head = head if request.version == HttpVersion11 else head.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Sends the whole response."""
        assert not data, "the body is known from the start"
        out, self._out = self._out, None
        if out is None:
            return
        if len(self.content) <= CHUNK_BYTES:
            # In one write: two would be two system calls.
            await out.write_eof(self._head + self.content)
            return
        await out.write(self._head)
        view = memoryview(self.content)
        for begin in range(0, len(view), CHUNK_BYTES):
            await out.write(view[begin : begin + CHUNK_BYTES])
        await out.write_eof()


def serialize(status: int, headers: Mapping[str, str]) -> bytes:
    """The status line, of HTTP/1.1, and the header lines. Raises ValueError as `serialize_lines`."""
    return _status_line(status) + serialize_lines(headers.items())


def serialize_lines(fields: Iterable[tuple[str, str]]) -> bytes:
    """The header lines. Raises ValueError for a line break in a header, which would begin another header."""
    lines = [*map(": ".join, fields), ""]
    text = "\r\n".join(lines)
    if not text.count("\r") == text.count("\n") == len(lines) - 1:
        raise ValueError("a header contains a line break")
    return text.encode()


@lru_cache
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


def compose_head(start: bytes, request_id: str, lines: bytes) -> bytes:
    """The head of every image response: `start` (see `serialize`), the id of the request, and the further header
    `lines` of this request."""
    return b"%bX-Request-Id: %b\r\n%b\r\n" % (start, request_id.encode(), lines)


def _connection_line(version: HttpVersion, keep_alive: bool) -> bytes:
    """HTTP/1.1 connections persist unless told otherwise, HTTP/1.0 connections do not (RFC 9112, 9.3)."""
    if keep_alive and version == HttpVersion10:
        return b"Connection: keep-alive\r\n"
    if not keep_alive and version == HttpVersion11:
        return b"Connection: close\r\n"
    return b""
