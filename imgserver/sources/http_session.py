"""The HTTP client: an aiohttp session that enforces the SSRF policy, and the translation of its errors.

The check is made in the socket factory, with the IP address that is about to be connected to. So a literal address, a
name whose DNS answer changes, a redirect and a second attempt all pass the same check. Proxies of the environment are
not used, because a proxy would resolve and connect unchecked. There are no cookies.
"""

import errno
import socket
import ssl
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from imgserver import __version__
from imgserver.errors import DeadlineExceeded, ImgserverError, NotFound, SourceFailed, Unavailable
from imgserver.security.remote_url import CDN_LOOP_ID
from imgserver.security.ssrf import SsrfFilter
from imgserver.sources.http_head import HeadFilter
from imgserver.sources.http_response import TransientError
from imgserver.sources.url_mapping import HttpOriginSettings

# Family, type, protocol, canonical name and socket address, whose first item is the IP address.
AddrInfo = tuple[int, int, int, str, tuple[object, ...]]

# Other errors of a resolver do not mean that the name does not exist.
NO_SUCH_NAME = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
# The longest header line of a response: policies and cookies exceed the 8190 bytes that are usual for requests.
MAX_HEADER_BYTES = 1 << 15
NO_SUCH_HOST = "its host name does not exist"
NO_SOCKETS_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def make_session(
    settings: HttpOriginSettings, *, tls: ssl.SSLContext | None = None, resolver: AbstractResolver | None = None
) -> aiohttp.ClientSession:
    """Call it in the event loop that uses the session. `tls` and `resolver` replace those of the system."""
    networks, fetch = SsrfFilter(settings.networks), settings.fetch

    def create_socket(info: AddrInfo) -> socket.socket:
        """Called with the IP address that is about to be connected to: here the SSRF policy is enforced."""
        family, kind, protocol, _, address = info
        if refusal := networks.blocked_reason(str(address[0])):
            raise BlockedError(refusal)
        return socket.socket(family, kind, protocol)

    return aiohttp.ClientSession(
        connector=LenientConnector(
            limit=settings.connections,
            ssl=tls or True,
            resolver=PublicResolver(resolver or aiohttp.ThreadedResolver(), networks),
            socket_factory=create_socket,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": f"imgserver/{__version__}", "CDN-Loop": CDN_LOOP_ID},
        timeout=aiohttp.ClientTimeout(
            total=None, connect=fetch.connect_timeout_seconds, sock_read=fetch.idle_timeout_seconds
        ),
        auto_decompress=False,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        trust_env=False,
    )


class LenientResponseHandler(ResponseHandler):
    """aiohttp's protocol of a connection, behind a HeadFilter for each response."""

    _filter: HeadFilter | None = None

    def set_response_params(self, **parameters: Any) -> None:
        """Called before each request."""
        self._filter = HeadFilter()
        super().set_response_params(**parameters)

    def data_received(self, data: bytes) -> None:
        if data and self._filter is not None:
            data = self._filter.feed(data)
            if not data:
                return
        super().data_received(data)


class LenientConnector(aiohttp.TCPConnector):
    """A connector whose connections are `LenientResponseHandler`s. The attribute `_factory` is aiohttp's own; without
    it, repeated Content-Lengths are refused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if hasattr(self, "_factory"):
            self._factory = lambda: LenientResponseHandler(loop=self._loop)  # type: ignore[assignment]


class BlockedError(OSError):
    """The SSRF policy forbids a connection to this IP address; `kind` names its network, such as `loopback`."""

    def __init__(self, kind: str) -> None:
        super().__init__("blocked")
        self.kind = kind


class PublicResolver(AbstractResolver):
    """Drops forbidden IP addresses from DNS answers, so that the outcome does not depend on their order.

    This is not the check itself, which is in the socket factory: literal addresses and cached answers skip the
    resolver.
    """

    def __init__(self, resolver: AbstractResolver, networks: SsrfFilter) -> None:
        self._resolver = resolver
        self._networks = networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        refusals = [self._networks.blocked_reason(result["host"]) for result in results]
        public = [result for result, refusal in zip(results, refusals, strict=True) if refusal is None]
        if not public:
            raise BlockedError(next(filter(None, refusals), "reserved"))
        return public

    async def close(self) -> None:
        await self._resolver.close()


def blocked_in(error: BaseException | None) -> BlockedError | None:
    cause = getattr(error, "os_error", None)
    return cause if isinstance(cause, BlockedError) else None


def translated(error: Exception, *, configured: bool) -> ImgserverError | TransientError:
    """`configured`: the settings name the host. A name that does not exist is then a failure of DNS or of the settings;
    in the URL of a client it means that there is no such original."""
    cause = getattr(error, "os_error", error)
    no_such_name = isinstance(cause, socket.gaierror) and cause.errno in NO_SUCH_NAME
    if configured and no_such_name:
        return TransientError(SourceFailed(NO_SUCH_HOST))
    if isinstance(cause, BlockedError) or no_such_name:
        return NotFound()  # one response for both: clients must not learn which internal names exist
    if isinstance(cause, OSError) and cause.errno in NO_SOCKETS_LEFT:
        return Unavailable("The server has too many files open", reason="memory", retry_after=1)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TransientError(DeadlineExceeded("the original's server cannot be reached in time"))
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("the original's server took too long")
    if isinstance(error, aiohttp.ClientSSLError):
        return SourceFailed("the original's server has no valid certificate")
    if isinstance(error, aiohttp.ClientResponseError):
        return SourceFailed("the original's server violates HTTP")
    return TransientError(SourceFailed("the original's server cannot be reached, or closed the connection"))
