"""Where Redis is and whom we trust there, from a URL: arguments for the client's connections."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.asyncio import SSLConnection
from redis.asyncio.connection import RedisSSLContext, parse_url
from redis.exceptions import RedisError

SCHEMES = ("redis", "rediss", "unix")
# What a URL's query may not change: the code here depends on it.
_OURS = frozenset(
    {"protocol", "decode_responses", "encoding", "encoding_errors", "max_connections", "timeout", "retry"}
    | {"socket_timeout", "socket_connect_timeout", "retry_on_timeout", "retry_on_error", "health_check_interval"}
)


def address_of(url: str, ca_file: Path) -> dict[str, Any]:
    """What the URL says of where and who; how we speak is ours to say. ValueError: it cannot be used."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ValueError(
            f"redis.url begins with redis://, rediss:// or unix://, not {scheme!r}; Sentinel and Cluster are not"
            " supported: give the address of a primary or of a proxy"
        )
    told = {name: value for name, value in dict(parse_url(url)).items() if name not in _OURS}
    if scheme == "rediss":
        return _with_tls(told, ca_file)
    if ca_file != Path():
        raise ValueError("redis.ca_file is for TLS: redis.url begins with rediss:// then")
    return told


def _with_tls(address: Mapping[str, Any], ca_file: Path) -> dict[str, Any]:
    options = {name: value for name, value in address.items() if name != "connection_class"}
    if ca_file != Path():
        options["ssl_ca_certs"] = str(ca_file)
    try:
        context = SSLConnection(**options).ssl_context
        context.get()
    except (OSError, RedisError, TypeError) as error:
        raise ValueError(f"redis.url or redis.ca_file: TLS cannot be set up: {error}") from error
    return {**options, "connection_class": _TlsConnection, "context": context}


class _TlsConnection(SSLConnection):
    """All connections share what they trust: to read the authorities' certificates anew for each one would hold the
    event loop for 15 ms."""

    def __init__(self, *, context: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = context
