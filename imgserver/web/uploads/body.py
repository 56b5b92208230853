"""The body of an upload, read piece by piece with limits on its size, its pauses and its duration.

The framework has no timeout for bodies, and its size limit does not apply to a handler that reads in pieces.
"""

import asyncio
import time

import aiohttp
from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from imgserver.errors import BodyTimeout, BodyTooLarge, MalformedRequest, UnsupportedImage
from imgserver.headers.field_lines import combined
from imgserver.rendering.upload_admission import UploadSettings
from imgserver.web.request_body import send_continue


class UploadBody:
    """Call `check_headers`, then `begin`, then `read` until it returns no bytes."""

    def __init__(self, request: web.Request, settings: UploadSettings) -> None:
        self._request = request
        self._settings = settings
        self._deadline = 0.0
        self.bytes = 0

    def check_headers(self) -> None:
        """Refuses what the headers alone show. Raises BodyTooLarge, UnsupportedImage and HTTPExpectationFailed."""
        headers = self._request.headers
        if (combined(headers, hdrs.CONTENT_ENCODING) or "identity").lower() != "identity":
            raise UnsupportedImage("Content-Encoding: the body of an upload must not be compressed")
        if (self._request.content_length or 0) > self._settings.max_body_bytes:
            raise self._too_large()
        if (combined(headers, hdrs.EXPECT) or "100-continue").lower() != "100-continue":
            raise web.HTTPExpectationFailed()

    async def begin(self) -> None:
        """Sends 100 Continue to a client that waits for it, and starts the timeout of the body."""
        await send_continue(self._request)
        self._deadline = time.monotonic() + self._settings.body_timeout_seconds

    async def read(self) -> bytes:
        """The next bytes; none at the end. Raises BodyTimeout, BodyTooLarge and MalformedRequest."""
        try:
            async with asyncio.timeout(min(self._settings.idle_timeout_seconds, self._deadline - time.monotonic())):
                data = await self._request.content.readany()
        except TimeoutError:
            raise BodyTimeout() from None
        except (aiohttp.ClientPayloadError, web.RequestPayloadError, BadHttpMessage) as error:
            raise MalformedRequest("The body does not match its headers") from error
        self.bytes += len(data)
        if self.bytes > self._settings.max_body_bytes:
            raise self._too_large()
        return data

    def _too_large(self) -> BodyTooLarge:
        limit = self._settings.max_body_bytes
        return BodyTooLarge(f"The body is over the limit of {limit} bytes", limit="body", allowed=limit)
