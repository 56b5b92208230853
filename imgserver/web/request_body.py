"""Reading a request's body: the client is told to send it only when the server is ready to read it."""

import asyncio

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from imgserver.errors import BadRequest, BodyTimeout

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def send_continue(request: web.Request) -> None:
    """Sends 100 Continue to a client that waits for it (RFC 9110, 10.1.1): without it, client and server would wait for
    each other. Any other expectation is ignored, which the RFC allows."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(CONTINUE)
        # The framework counts these bytes as a part of the response, which has not begun.
        request.writer.output_size = 0


async def read_small_body(request: web.Request, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body. Raises BodyTimeout after `seconds`, and BadRequest beyond `max_bytes`."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            await send_continue(request)
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > max_bytes:
                    raise BadRequest(f"The body is over {max_bytes} bytes")
    except TimeoutError as error:
        raise BodyTimeout() from error
    return bytes(body)
