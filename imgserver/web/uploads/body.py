"""A request's body as it comes: counted, and never waited for too long.

The framework has no time-out for bodies, and its limit of their size does not hold for those who read piece by piece.
"""

import asyncio
import time

import aiohttp
from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from imgserver.errors import BodyTimeout, BodyTooLarge, MalformedRequest, UnsupportedImage
from imgserver.rendering.upload_admission import UploadSettings
from imgserver.web.request_body import send_continue


class Body:
    """`check` what is declared, `invite` the client to send, then `read` until it is empty."""

    def __init__(self, request: web.Request, settings: UploadSettings) -> None:
        self._request = request
        self._settings = settings
        self._ends = 0.0
        self.bytes = 0

    def check(self) -> None:
        """What can be refused without a byte of it. Raises BodyTooLarge, UnsupportedImage, HTTPExpectationFailed."""
        headers = self._request.headers
        if headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            raise UnsupportedImage("Content-Encoding: a body is taken as it is, not compressed")
        if (self._request.content_length or 0) > self._settings.max_body_bytes:
            raise self._too_large()
        if headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
            raise web.HTTPExpectationFailed()

    async def invite(self) -> None:
        """Tells a client that waits for it to go on (RFC 9110, 10.1.1); the time for the body begins."""
        await send_continue(self._request)
        self._ends = time.monotonic() + self._settings.body_timeout_seconds

    async def read(self) -> bytes:
        """Some bytes, none at the end. Raises BodyTimeout, BodyTooLarge, MalformedRequest."""
        try:
            async with asyncio.timeout(min(self._settings.idle_timeout_seconds, self._ends - time.monotonic())):
                data = await self._request.content.readany()
        except TimeoutError:
            raise BodyTimeout() from None
        except (aiohttp.ClientPayloadError, web.RequestPayloadError, BadHttpMessage) as error:
            raise MalformedRequest("The body is not what its header said") from error
        self.bytes += len(data)
        if self.bytes > self._settings.max_body_bytes:
            raise self._too_large()
        return data

    def _too_large(self) -> BodyTooLarge:
        limit = self._settings.max_body_bytes
        return BodyTooLarge(f"The body is over the limit of {limit} bytes", limit="body", allowed=limit)
