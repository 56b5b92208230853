"""Answers of the image handler. A hit is sent as bytes that were spelled before.

The framework spells each head anew, from a dictionary it also copies and checks: a third of what a hit takes there.
What is the same for every hit of a rendition is spelled once here; what differs (Cache-Status, Date, the request's id)
follows.
"""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.payload import Payload

from imgserver.headers.caching import http_date

# A large body as the framework takes it: piece by piece, each when the client has taken the one before.
#
# Handed over as a whole it is copied behind its header and stays in memory until the client has taken it: a hundred
# clients that do not read would cost a hundred bodies, and the loop would copy them all at once.

PIECE_BYTES = 256 << 10


class Pieces(Payload):
    _autoclose = True  # there is nothing to close

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._size = len(body)

    def decode(self, *_: str) -> str:
        raise TypeError("a picture is no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        await write_pieces(writer, self._value)


async def write_pieces(writer: AbstractStreamWriter, body: bytes) -> None:
    view = memoryview(body)
    for start in range(0, len(view), PIECE_BYTES):
        await writer.write(view[start : start + PIECE_BYTES])


def body_of(body: bytes) -> bytes | Pieces:
    return body if len(body) <= PIECE_BYTES else Pieces(body)


class Told:
    """What became of a request for a picture, and how many bytes of it were answered."""

    outcome: str = ""
    length: int = 0


class Picture(Told, web.Response):
    """Fully dressed, spelled by the framework: the answer to everything but plain hits."""


class Spelled(NamedTuple):
    """The answer to a GET on an HTTP/1.1 connection that stays open, but for the request's id.

    `head` ends with a field's line end, `passing` are the fields of this second.
    """

    outcome: str
    status: int
    head: bytes
    passing: bytes
    body: bytes

    def begin(self, request_id: str) -> bytes:
        return b"%b%bX-Request-Id: %b\r\n\r\n" % (self.head, self.passing, request_id.encode())

    def whole(self, request_id: str) -> bytes:
        # One piece: two would be two system calls.
        return b"%b%bX-Request-Id: %b\r\n\r\n%b" % (self.head, self.passing, request_id.encode(), self.body)


class Ready(Told, web.StreamResponse):
    """A spelled answer, sent in one piece unless it is large."""

    keep_alive = True

    def __init__(self, spelled: Spelled) -> None:
        super().__init__(status=spelled.status)
        self.outcome, self.length = spelled.outcome, len(spelled.body)
        self.request_id = ""
        self.spelled = spelled
        self._out: AbstractStreamWriter | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._out = request.writer
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        assert not data, "the body is known from the start"
        out, self._out = self._out, None
        if out is None:
            return
        if self.length > PIECE_BYTES:
            await out.write(self.spelled.begin(self.request_id))
            await write_pieces(out, self.spelled.body)
            await out.write_eof()
        else:
            await out.write_eof(self.spelled.whole(self.request_id))


def is_plain(request: web.Request | RawRequestMessage) -> bool:
    """Whether a spelled answer fits it, if its connection stays open."""
    return request.method == hdrs.METH_GET and request.version == HttpVersion11 and hdrs.RANGE not in request.headers


def spell(status: int, fields: Iterable[tuple[str, str]]) -> bytes:
    """Status line and fields. ValueError: a line break in a field would begin another."""
    lines = [f"{name}: {value}" for name, value in fields]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header field holds a line break")
    return "\r\n".join((f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *lines, "")).encode()


@lru_cache(maxsize=2)
def date_line(epoch_seconds: int) -> bytes:
    return f"Date: {http_date(epoch_seconds)}\r\n".encode()
