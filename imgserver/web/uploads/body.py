"""The body of an upload, read piece by piece with limits on its size, its rate and its duration.

The framework has no timeout for bodies, and its size limit does not apply to a handler that reads in pieces.
"""

import asyncio
import time

import aiohttp
from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from imgserver.errors import BodyTimeout, BodyTooLarge, MalformedRequest, UnsupportedImage
from imgserver.headers.field_lines import combined
from imgserver.rendering.upload_admission import UploadPlace, UploadSettings
from imgserver.web.request_body import send_continue


class UploadBody:
    """Call `check_headers`, then `begin`, then `read` until it returns no bytes.

    The rate is measured in windows of `idle_timeout_seconds`, one after the other. A byte now and then does not begin a
    new window.
    """

    def __init__(self, request: web.Request, settings: UploadSettings) -> None:
        self._request = request
        self._settings = settings
        self._deadline = 0.0
        self._place: UploadPlace | None = None
        self._timeout: asyncio.Timeout | None = None
        self._is_displaced = False
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

    async def begin(self, place: UploadPlace) -> None:
        """Sends 100 Continue to a client that waits for it, and starts the timeouts of the body. Reports the progress
        of the body to `place`."""
        await send_continue(self._request)
        place.began = now = time.monotonic()
        self._deadline = now + self._settings.body_timeout_seconds
        self._place, place.on_displaced = place, self._displace

    async def read(self) -> bytes:
        """The next bytes; none at the end. Raises BodyTimeout, BodyTooLarge and MalformedRequest."""
        assert self._place is not None, "the body has begun"
        while True:
            try:
                data = await self._read_until(self._end_of_window(self._place))
                break
            except TimeoutError:
                self._check_rate(self._place)
        if not data:
            self._place.on_displaced = None
        self._place.bytes += len(data)
        self.bytes += len(data)
        if self.bytes > self._settings.max_body_bytes:
            raise self._too_large()
        return data

    def _end_of_window(self, place: UploadPlace) -> float:
        if self._is_displaced:
            return 0.0
        return min(place.began + self._settings.idle_timeout_seconds, self._deadline)

    async def _read_until(self, moment: float) -> bytes:
        """Raises TimeoutError at that moment of the monotonic clock; at any moment, if the upload is displaced."""
        try:
            async with asyncio.timeout(moment - time.monotonic()) as self._timeout:
                return await self._request.content.readany()
        except (aiohttp.ClientPayloadError, web.RequestPayloadError, BadHttpMessage) as error:
            raise MalformedRequest("The body does not match its headers") from error
        finally:
            self._timeout = None

    def _check_rate(self, place: UploadPlace) -> None:
        """Begins the next window. Raises BodyTimeout if this one brought too little, or the time is up."""
        now, seconds = time.monotonic(), self._settings.idle_timeout_seconds
        if self._is_displaced:
            raise BodyTimeout("The body arrived too slowly while other uploads waited")
        if now >= self._deadline:
            raise BodyTimeout(f"The body took longer than {self._settings.body_timeout_seconds:g} s")
        if place.bytes < max(1, self._settings.min_rate_bytes * seconds):
            raise BodyTimeout(f"The body brought less than {self._settings.min_rate_bytes} bytes per second")
        place.began, place.bytes = now, 0

    def _displace(self) -> None:
        self._is_displaced = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def _too_large(self) -> BodyTooLarge:
        limit = self._settings.max_body_bytes
        return BodyTooLarge(f"The body is over the limit of {limit} bytes", limit="body", allowed=limit)
