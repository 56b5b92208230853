"""Originals by HTTP. Every address is judged when it is dialled, every redirect as if it had been asked for.

A name is judged by what it resolves to at that moment, in the socket factory: so a literal, a name that changes its
mind, a redirect and a second attempt all pass the same gate. There is no proxy from the environment, behind which it
would be blind, and there are no cookies.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn, TypeVar
from urllib.parse import urldefrag, urljoin

import aiohttp
import stamina
import stamina.instrumentation
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from imgserver import __version__
from imgserver.errors import (
    BadSourcePath,
    DeadlineExceeded,
    ImageOverLimit,
    ImgserverError,
    NotFound,
    SourceDenied,
    SourceFailed,
    Unavailable,
)
from imgserver.observability.audit import Audit, asked
from imgserver.security.remote_url import OURS, REMOTE, Address, parse
from imgserver.security.ssrf import Networks
from imgserver.sources.http_response import (
    REDIRECTS,
    TransientError,
    check,
    conditions,
    content_length,
    refuses_head,
    told,
)
from imgserver.sources.origin import BodySink, OriginResponse, Validators
from imgserver.sources.url_mapping import BaseUrlMapping, HttpSourceSettings, RemoteUrlMapping, UrlMapping

# A sink that takes only so much, whatever the sender has said.


class Capped:
    """Counts before it hands on: `sink` never gets more than `max_bytes`."""

    def __init__(self, sink: BodySink, max_bytes: int) -> None:
        self.taken_bytes = 0
        self._sink = sink
        self._max_bytes = max_bytes

    def expect(self, size_bytes: int | None) -> None:
        """What the sender promises, before it comes. Raises ImageOverLimit."""
        if size_bytes is not None and size_bytes > self._max_bytes:
            raise self._over(size_bytes)

    async def take(self, chunk: bytes) -> None:
        """Raises ImageOverLimit, and whatever the sink raises."""
        self.taken_bytes += len(chunk)
        if self.taken_bytes > self._max_bytes:
            raise self._over(self.taken_bytes)
        await self._sink(chunk)

    def _over(self, size_bytes: int) -> ImageOverLimit:
        return ImageOverLimit(
            f"source bytes: {size_bytes} is over the limit of {self._max_bytes}",
            limit="source bytes",
            value=size_bytes,
            allowed=self._max_bytes,
        )


T = TypeVar("T")
# family, type, protocol, canonical name, socket address; the last begins with the IP address.
Dialled = tuple[int, int, int, str, tuple[object, ...]]

# Any other fault of a resolver says nothing about the name: a failure, not an absence.
NO_SUCH_NAME = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
NO_SOCKETS_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# The first waits of attempts after a failure, doubled each time, and what is added to them by chance.
WAIT_SECONDS, JITTER_SECONDS = 0.1, 0.1

# By default stamina counts in a registry that is not ours and logs arguments, which hold addresses.
stamina.instrumentation.set_on_retry_hooks(())


class _Blocked(OSError):
    """An address that must not be dialled."""

    def __init__(self, kind: str) -> None:
        super().__init__("blocked")
        self.kind = kind


class _PublicNames(AbstractResolver):
    """Leaves out what must not be dialled, so that the fate of a name does not depend on the order of its addresses.

    The gate itself is the socket factory: literals and remembered answers never come by here.
    """

    def __init__(self, names: AbstractResolver, networks: Networks) -> None:
        self._names = names
        self._networks = networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        refusals = [self._networks.refusal(one["host"]) for one in found]
        public = [one for one, refusal in zip(found, refusals, strict=True) if refusal is None]
        if not public:
            raise _Blocked(next(filter(None, refusals), "reserved"))
        return public

    async def close(self) -> None:
        await self._names.close()


class HttpOrigin:
    """An `Origin` by HTTP and HTTPS. Idempotent requests only, so each may be repeated until its body has begun."""

    def __init__(
        self,
        name: str,
        settings: HttpSourceSettings,
        site: UrlMapping,
        *,
        audit: Audit,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self._site = site
        self._audit = audit
        self._networks = Networks(settings.networks)
        self._tls = tls
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, path: str, sink: BodySink, *, known: Validators | None = None) -> OriginResponse | None:
        body = Capped(sink, self.settings.max_bytes)
        fields = conditions(known)

        async def attempt() -> OriginResponse | None:
            async with self._answer("GET", path, fields) as answer:
                if answer.status == 304 and fields:
                    return None
                check(answer.status, answer.headers)
                await self._pour(answer, body)
                return told(answer.headers)

        return await self._bounded(attempt, may_repeat=lambda: body.taken_bytes == 0)

    async def stat(self, path: str) -> OriginResponse:
        async def attempt() -> OriginResponse:
            async with self._answer("HEAD", path) as answer:
                if not refuses_head(answer.status):
                    check(answer.status, answer.headers)
                    return told(answer.headers)
            async with self._answer("GET", path) as answer:
                check(answer.status, answer.headers)
                return told(answer.headers)

        return await self._bounded(attempt, may_repeat=lambda: True)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _bounded(self, attempt: Callable[[], Awaitable[T]], *, may_repeat: Callable[[], bool]) -> T:
        attempts = stamina.retry_context(
            on=lambda error: isinstance(error, TransientError) and may_repeat(),
            attempts=self.settings.attempts,
            timeout=self.settings.total_seconds,
            wait_initial=WAIT_SECONDS,
            wait_jitter=JITTER_SECONDS,
        )
        try:
            async with asyncio.timeout(self.settings.total_seconds) as deadline:
                async for one in attempts:
                    with one:
                        return await attempt()
        except TransientError as failure:
            raise failure.error from failure.__cause__
        except TimeoutError as error:
            if not deadline.expired():  # the sink's own
                raise
            raise DeadlineExceeded("the original's server took too long") from error
        raise AssertionError("an attempt ends in an answer or in an error")

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, fields: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The first answer that is no redirect. Leaving early closes its connection."""
        start = address = self._site.address(path)
        for _ in range(self.settings.redirects + 1):
            async with await self._send(method, address, fields or {}) as answer:
                if answer.status not in REDIRECTS:
                    yield answer
                    return
                address = self._led(start, address, answer.headers.get("Location"))
        raise SourceFailed(f"the original's server redirects more than {self.settings.redirects} times")

    async def _send(self, method: str, address: Address, fields: Mapping[str, str]) -> aiohttp.ClientResponse:
        with self._translated(address):
            return await self._opened().request(
                method,
                URL(str(address), encoded=True),
                headers={**self._site.fields(address), **fields},
                allow_redirects=False,
            )

    async def _pour(self, answer: aiohttp.ClientResponse, body: Capped) -> None:
        body.expect(content_length(answer.headers))
        while True:
            with self._translated(None):
                chunk = await answer.content.readany()
            if not chunk:
                return
            await body.take(chunk)

    def _led(self, start: Address, here: Address, location: str | None) -> Address:
        if location is None:
            raise SourceFailed("the original's server redirects to nowhere")
        try:
            target = parse(urldefrag(urljoin(str(here), location)).url)
        except (BadSourcePath, ValueError):
            self._deny_redirect("malformed", here)
        if here.scheme == "https" and target.scheme == "http":
            self._deny_redirect("downgrade", target)
        if not self._site.may_lead(start, target):
            self._deny_redirect("not_listed", target)
        return target

    def _deny_redirect(self, reason: str, target: Address) -> NoReturn:
        self._audit("redirect_denied", reason=reason, source=self.name, host=target.host, **asked())
        raise SourceDenied("the original's server redirects to where originals may not come from")

    def _opened(self) -> aiohttp.ClientSession:
        """Made at the first request: a session belongs to a running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self.settings.connections,
                    ssl=self._tls or True,
                    resolver=_PublicNames(self._resolver or aiohttp.ThreadedResolver(), self._networks),
                    socket_factory=self._dial,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "Accept-Encoding": "identity",
                    "User-Agent": f"imgserver/{__version__}",
                    "CDN-Loop": OURS,
                },
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=self.settings.connect_seconds, sock_read=self.settings.idle_seconds
                ),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    def _dial(self, dialled: Dialled) -> socket.socket:
        family, kind, protocol, _, address = dialled
        if refusal := self._networks.refusal(str(address[0])):
            raise _Blocked(refusal)
        return socket.socket(family, kind, protocol)

    @contextmanager
    def _translated(self, address: Address | None) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = getattr(error, "os_error", None)
            if isinstance(cause, _Blocked) and address is not None:
                self._audit("address_blocked", reason=cause.kind, source=self.name, host=address.host, **asked())
            raise _translate(error) from error


def named(name: str, settings: HttpSourceSettings, *, audit: Audit) -> HttpOrigin:
    return HttpOrigin(name, settings, BaseUrlMapping(settings), audit=audit)


def remote(settings: HttpSourceSettings, site: RemoteUrlMapping, *, audit: Audit) -> HttpOrigin:
    """`site` is the one whose `admit` is called with each request."""
    return HttpOrigin(REMOTE, settings, site, audit=audit)


def _translate(error: Exception) -> ImgserverError | TransientError:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, _Blocked) or (isinstance(cause, socket.gaierror) and cause.errno in NO_SUCH_NAME):
        return NotFound()  # one answer for both: whether a name exists inside is nobody's business
    if isinstance(cause, OSError) and cause.errno in NO_SOCKETS_LEFT:
        return Unavailable("The server has too many files open", reason="memory", retry_after=1)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TransientError(DeadlineExceeded("the original's server cannot be reached in time"))
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("the original's server took too long")
    if isinstance(error, aiohttp.ClientSSLError):
        return SourceFailed("the original's server has no valid certificate")
    if isinstance(error, aiohttp.ClientResponseError):
        return SourceFailed("the original's server does not speak HTTP as it should")
    return TransientError(SourceFailed("the original's server cannot be reached, or broke off"))
