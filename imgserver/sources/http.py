"""Originals from web servers: requests, conditional requests, retries and redirects. Every redirect is checked like a
first URL; http_session.py checks every connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import NoReturn, TypeVar
from urllib.parse import urldefrag, urljoin

import aiohttp
import stamina
import stamina.instrumentation
from aiohttp.abc import AbstractResolver
from yarl import URL

from imgserver.errors import (
    BadSourcePath,
    DeadlineExceeded,
    NotFound,
    SourceDenied,
    SourceFailed,
)
from imgserver.observability.audit import Audit, request_context
from imgserver.security.remote_url import REMOTE, RemoteUrl, parse
from imgserver.sources.config import SourceConfig
from imgserver.sources.content_coding import DecodingSink, codings_of
from imgserver.sources.http_response import (
    REDIRECTS,
    TransientError,
    combined,
    conditions,
    content_length,
    refuse_unusable,
    refuses_head,
    response_of,
)
from imgserver.sources.http_session import NO_SUCH_HOST, blocked_in, make_session, translated
from imgserver.sources.origin import BodySink, Origin, OriginResponse, Validators, refuse_larger
from imgserver.sources.schemes import SourceContext
from imgserver.sources.source import Source
from imgserver.sources.url_mapping import (
    MAX_CONNECTIONS,
    BaseUrlMapping,
    HttpOriginSettings,
    RemoteUrlMapping,
    UrlMapping,
    settings_of,
)

T = TypeVar("T")
# The wait before a second attempt, doubled before each further one, and the largest random addition to it.
WAIT_SECONDS, JITTER_SECONDS = 0.1, 0.1

# The default hooks of stamina count in the global metrics registry and log arguments, which hold URLs.
stamina.instrumentation.set_on_retry_hooks(())


def make_source(config: SourceConfig, context: SourceContext) -> Source:
    """The factory of the schemes http and https. Raises ValueError."""
    settings = replace(
        settings_of(config),
        fetch=context.fetch,
        max_bytes=context.max_bytes,
        connections=min(MAX_CONNECTIONS, context.max_concurrent),
    )
    return context.cached(HttpOrigin(context.name, settings, BaseUrlMapping(settings), audit=context.audit))


def remote_origin(settings: HttpOriginSettings, mapping: RemoteUrlMapping, *, audit: Audit) -> "HttpOrigin":
    """The origin of whole URLs. `mapping` is the one whose `admit` is called for each request."""
    return HttpOrigin(REMOTE, settings, mapping, audit=audit)


class HttpOrigin(Origin):
    """A web server. All requests are idempotent, so each may be repeated until the first byte of its body."""

    def __init__(
        self,
        name: str,
        settings: HttpOriginSettings,
        mapping: UrlMapping,
        *,
        audit: Audit,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self._mapping = mapping
        self._audit = audit
        self._tls = tls
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, path: str, sink: BodySink, *, known: Validators | None = None) -> OriginResponse | None:
        """As in `Origin`; also ImageOverLimit for a Content-Length over `max_bytes`, before the body is read."""
        fields = conditions(known)
        begun = False

        async def counted_sink(chunk: bytes) -> None:
            nonlocal begun
            begun = True
            await sink(chunk)

        async def attempt() -> OriginResponse | None:
            async with self._response("GET", path, fields) as response:
                if response.status == 304 and fields:
                    return None
                refuse_unusable(response.status)
                refuse_larger(content_length(response.headers), self.settings.max_bytes)
                await self._copy(response, counted_sink)
                return response_of(response.headers)

        return await self._with_retries(attempt, may_repeat=lambda: not begun)

    async def stat(self, path: str) -> OriginResponse:
        """By HEAD, or by a GET whose body is not read if the server refuses HEAD."""

        async def attempt() -> OriginResponse:
            async with self._response("HEAD", path) as response:
                if not refuses_head(response.status):
                    refuse_unusable(response.status)
                    return response_of(response.headers)
            async with self._response("GET", path) as response:
                refuse_unusable(response.status)
                return response_of(response.headers)

        return await self._with_retries(attempt, may_repeat=lambda: True)

    async def check(self) -> None:
        """As in `Origin`. Raises SourceFailed also for a host that does not exist, or that must not be connected to."""
        try:
            await self.probe()
        except NotFound as error:
            blocked = blocked_in(error.__cause__)
            if blocked is not None:
                kind = blocked.kind.replace("_", " ")
                raise SourceFailed(
                    f"its IP address is {kind}; if that is intended, name its network in allowed_networks"
                ) from error
            if error.__cause__ is not None:
                raise SourceFailed(NO_SUCH_HOST) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _with_retries(self, attempt: Callable[[], Awaitable[T]], *, may_repeat: Callable[[], bool]) -> T:
        fetch = self.settings.fetch
        attempts = stamina.retry_context(
            on=lambda error: isinstance(error, TransientError) and may_repeat(),
            attempts=fetch.max_attempts,
            timeout=fetch.total_timeout_seconds,
            wait_initial=WAIT_SECONDS,
            wait_jitter=JITTER_SECONDS,
        )
        try:
            async with asyncio.timeout(fetch.total_timeout_seconds) as deadline:
                async for context in attempts:
                    with context:
                        return await attempt()
        except TransientError as failure:
            raise failure.error from failure.__cause__
        except TimeoutError as error:
            if not deadline.expired():  # raised by the sink
                raise
            raise DeadlineExceeded("the original's server took too long") from error
        raise AssertionError("an attempt returns or raises")

    @asynccontextmanager
    async def _response(
        self, method: str, path: str, fields: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The first response that is not a redirect. A body that is not read to its end closes the connection."""
        start = address = self._mapping.address(path)
        redirects = self.settings.fetch.max_redirects
        for _ in range(redirects + 1):
            async with await self._send(method, address, fields or {}) as response:
                if response.status not in REDIRECTS:
                    yield response
                    return
                address = self._redirect_target(start, address, response.headers.get("Location"))
        raise SourceFailed(f"the original's server redirects more than {redirects} times")

    async def _send(self, method: str, address: RemoteUrl, fields: Mapping[str, str]) -> aiohttp.ClientResponse:
        with self._translate_errors(address):
            return await self._open_session().request(
                method,
                URL(str(address), encoded=True),
                headers={**self._mapping.fields(address), **fields},
                allow_redirects=False,
            )

    async def _copy(self, response: aiohttp.ClientResponse, sink: BodySink) -> None:
        decoding = DecodingSink(codings_of(combined(response.headers, "Content-Encoding")), sink)
        while True:
            with self._translate_errors(None):
                chunk = await response.content.readany()
            if not chunk:
                decoding.close()
                return
            await decoding(chunk)

    def _redirect_target(self, start: RemoteUrl, current: RemoteUrl, location: str | None) -> RemoteUrl:
        if location is None:
            raise SourceFailed("the original's server redirects without a Location")
        try:
            target = parse(urldefrag(urljoin(str(current), location)).url)
        except (BadSourcePath, ValueError):
            self._deny_redirect("malformed", current)
        if current.scheme == "https" and target.scheme == "http":
            self._deny_redirect("downgrade", target)
        if not self._mapping.allows_redirect(start, target):
            self._deny_redirect("not_listed", target)
        return target

    def _deny_redirect(self, reason: str, target: RemoteUrl) -> NoReturn:
        self._audit("redirect_denied", reason=reason, source=self.name, host=target.host, **request_context())
        raise SourceDenied("the original's server redirects to a URL that is not allowed")

    def _open_session(self) -> aiohttp.ClientSession:
        """Created for the first request: a session belongs to a running event loop."""
        if self._session is None:
            self._session = make_session(self.settings, tls=self._tls, resolver=self._resolver)
        return self._session

    @contextmanager
    def _translate_errors(self, address: RemoteUrl | None) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            blocked = blocked_in(error)
            if blocked is not None and address is not None:
                self._audit(
                    "address_blocked", reason=blocked.kind, source=self.name, host=address.host, **request_context()
                )
            raise translated(error, configured=bool(self.settings.base)) from error
