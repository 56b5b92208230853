"""Answers of the image handler. A hit is sent as bytes that were spelled before.

The framework spells each head anew, from a dictionary it also copies and checks: a third of what a hit takes. What is
the same for every hit of a rendition is spelled once here; what differs (Cache-Status, Date, the request's id) follows.
"""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from imgserver.freshness import http_date
from imgserver.web.pieces import PIECE_BYTES, write_pieces


class Told:
    """What became of a request for a picture, and how many bytes of it were answered."""

    outcome: str = ""
    length: int = 0


class Picture(Told, web.Response):
    """Fully dressed, spelled by the framework: the answer to everything but plain hits."""


class Ready(Told, web.StreamResponse):
    """A GET's answer on an HTTP/1.1 connection that stays open, sent in one piece unless it is large."""

    keep_alive = True

    def __init__(self, outcome: str, *, head: bytes, passing: bytes, body: bytes, status: int = 200) -> None:
        """`head` ends with a field's line end, `passing` are the fields of this second."""
        super().__init__(status=status)
        self.outcome, self.length = outcome, len(body)
        self.request_id = ""
        self._head, self._passing, self.body = head, passing, body
        self._out: AbstractStreamWriter | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._out = request.writer
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        assert not data, "the body is known from the start"
        out, self._out = self._out, None
        if out is None:
            return
        identity = self.request_id.encode()
        if self.length > PIECE_BYTES:
            await out.write(b"%b%bX-Request-Id: %b\r\n\r\n" % (self._head, self._passing, identity))
            await write_pieces(out, self.body)
            await out.write_eof()
        else:
            # One write: two would be two system calls.
            await out.write_eof(b"%b%bX-Request-Id: %b\r\n\r\n%b" % (self._head, self._passing, identity, self.body))


def is_plain(request: web.Request) -> bool:
    """Whether `Ready` can answer it."""
    return (
        request.method == hdrs.METH_GET
        and request.version == HttpVersion11
        and request.keep_alive
        and hdrs.RANGE not in request.headers
    )


def spell(status: int, fields: Iterable[tuple[str, str]]) -> bytes:
    """Status line and fields. ValueError: a line break in a field would begin another."""
    lines = [f"{name}: {value}" for name, value in fields]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header field holds a line break")
    return "\r\n".join((f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *lines, "")).encode()


@lru_cache(maxsize=2)
def date_line(epoch_seconds: int) -> bytes:
    return f"Date: {http_date(epoch_seconds)}\r\n".encode()
