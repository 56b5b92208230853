"""A large body as the framework takes it: piece by piece, each when the client has taken the one before.

Handed over as a whole it is copied behind its header and stays in memory until the client has taken it: a hundred
clients that do not read would cost a hundred bodies, and the loop would copy them all at once.
"""

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

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
