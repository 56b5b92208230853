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
from aiohttp.abc import AbstractResolver
from yarl import URL

from imgserver import __version__
from imgserver.addresses import REMOTE, Address, parse
from imgserver.audit import Audit
from imgserver.errors import (
    BadSourcePath,
    DeadlineExceeded,
    ImgserverError,
    NotFound,
    SourceDenied,
    SourceFailed,
    Unavailable,
)
from imgserver.sources.answers import conditions, content_length, told
from imgserver.sources.capped import Capped
from imgserver.sources.networks import Networks
from imgserver.sources.origin import Sink, Told, Validators
from imgserver.sources.sites import HttpSourceSettings, Named, Remote, Site

T = TypeVar("T")
# family, type, protocol, canonical name, socket address; the last begins with the IP address.
Dialled = tuple[int, int, int, str, tuple[object, ...]]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
# 403: what a bucket answers for a name it does not have, to those who may not list it. 401 stays a failure: our
# credentials are wrong, and pictures that were there before are better answered stale than as gone.
ABSENT = frozenset({403, 404, 410, 451})
MAY_PASS = frozenset({500, 502, 503, 504})
# The first waits of attempts after a failure, doubled each time, and what is added to them by chance.
WAIT_SECONDS, JITTER_SECONDS = 0.1, 0.1

# By default stamina counts in a registry that is not ours and logs arguments, which hold addresses.
stamina.instrumentation.set_on_retry_hooks(())


class _Blocked(OSError):
    """An address that must not be dialled. The text is always the same: so it stays itself among several addresses."""

    def __init__(self, kind: str) -> None:
        super().__init__("blocked")
        self.kind = kind


class _MayPass(Exception):
    """A failure that another attempt may not meet."""

    def __init__(self, error: ImgserverError) -> None:
        super().__init__(str(error))
        self.error = error


class HttpOrigin:
    """An `Origin` by HTTP and HTTPS. Idempotent requests only, so each may be repeated until its body has begun."""

    def __init__(
        self,
        name: str,
        settings: HttpSourceSettings,
        site: Site,
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

    async def fetch(self, path: str, sink: Sink, *, known: Validators | None = None) -> Told | None:
        body = Capped(sink, self.settings.max_bytes)
        fields = conditions(known)

        async def attempt() -> Told | None:
            async with self._answer("GET", path, fields) as answer:
                if answer.status == 304 and fields:
                    return None
                _check(answer)
                await self._pour(answer, body)
                return told(answer.headers)

        return await self._bounded(attempt, may_repeat=lambda: body.taken_bytes == 0)

    async def look(self, path: str) -> Told:
        async def attempt() -> Told:
            async with self._answer("HEAD", path) as answer:
                if not _refuses_head(answer.status):
                    _check(answer)
                    return told(answer.headers)
            async with self._answer("GET", path) as answer:
                _check(answer)
                return told(answer.headers)

        return await self._bounded(attempt, may_repeat=lambda: True)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _bounded(self, attempt: Callable[[], Awaitable[T]], *, may_repeat: Callable[[], bool]) -> T:
        attempts = stamina.retry_context(
            on=lambda error: isinstance(error, _MayPass) and may_repeat(),
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
        except _MayPass as failure:
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
        self._audit("redirect_denied", reason=reason, source=self.name, host=target.host)
        raise SourceDenied("the original's server redirects to where originals may not come from")

    def _opened(self) -> aiohttp.ClientSession:
        """Made at the first request: a session belongs to a running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self.settings.connections,
                    ssl=self._tls or True,
                    resolver=self._resolver,
                    socket_factory=self._dial,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity", "User-Agent": f"imgserver/{__version__}"},
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
                self._audit("address_blocked", reason=cause.kind, source=self.name, host=address.host)
            raise _translate(error) from error


def named(name: str, settings: HttpSourceSettings, *, audit: Audit) -> HttpOrigin:
    return HttpOrigin(name, settings, Named(settings), audit=audit)


def remote(settings: HttpSourceSettings, site: Remote, *, audit: Audit) -> HttpOrigin:
    """`site` is the one whose `admit` is called with each request."""
    return HttpOrigin(REMOTE, settings, site, audit=audit)


def _check(answer: aiohttp.ClientResponse) -> None:
    """Raises unless the answer is a whole body, as it was written."""
    status = answer.status
    if status in ABSENT:
        raise NotFound()
    if status != 200:
        failure = SourceFailed(f"the original's server answered {status}")
        raise _MayPass(failure) if status in MAY_PASS else failure
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        # Small on the way, boundless when it is unpacked; and it was not asked for.
        raise SourceFailed("the original's server compressed its answer unasked")


def _refuses_head(status: int) -> bool:
    """Not only 405 and 501: an address may be signed for GET alone (403), and who knows no HEAD may say 400."""
    return status == 501 or (400 <= status < 500 and status not in (404, 410, 429))


def _translate(error: Exception) -> ImgserverError | _MayPass:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, _Blocked):
        return NotFound()
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _unresolved(cause)
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        return Unavailable("The server has too many files open", reason="memory", retry_after=1)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _MayPass(DeadlineExceeded("the original's server cannot be reached in time"))
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("the original's server took too long")
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ClientResponseError, aiohttp.InvalidURL)):
        return SourceFailed("the original's server has no valid certificate, or does not speak HTTP")
    return _MayPass(SourceFailed("the original's server cannot be reached, or broke off"))


def _unresolved(cause: object) -> ImgserverError | _MayPass:
    """There is no such name, or nobody could say."""
    if isinstance(cause, OSError) and cause.errno == socket.EAI_AGAIN:
        return _MayPass(SourceFailed("the name of the original's server cannot be resolved now"))
    return NotFound()
