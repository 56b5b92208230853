"""Where Redis is, how to log in, and which TLS certificates to trust: parsed from `redis.url`."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import SSLConnection
from redis.asyncio.connection import RedisSSLContext, parse_url
from redis.exceptions import RedisError

Command = tuple[str | bytes | int, ...]

SCHEMES = ("redis", "rediss", "unix")
# Options that the query of a URL may not set, because the client depends on them.
_RESERVED = frozenset(
    {"protocol", "decode_responses", "encoding", "encoding_errors", "max_connections", "timeout", "retry"}
    | {"socket_timeout", "socket_connect_timeout", "retry_on_timeout", "retry_on_error", "health_check_interval"}
)


def connection_options(url: str, ca_file: Path) -> dict[str, Any]:
    """Keyword arguments for redis-py's connections. Raises ValueError for a URL or a CA file that cannot be used."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ValueError(
            f"redis.url must begin with redis://, rediss:// or unix://, not {scheme!r}; Sentinel and Cluster are not"
            " supported: give the address of a primary or of a proxy"
        )
    options = {name: value for name, value in dict(parse_url(url)).items() if name not in _RESERVED}
    if scheme == "rediss":
        return _with_tls(options, ca_file)
    if ca_file != Path():
        raise ValueError("redis.ca_file needs TLS: redis.url must begin with rediss://")
    return options


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a pipelined connection leads, and the commands that it sends first. `path`: of a Unix socket."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    tls: ssl.SSLContext | None = None
    handshake: tuple[Command, ...] = (("HELLO", 3),)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Endpoint":
        """`options`: from `connection_options`."""
        context = options.get("context")
        return cls(
            host=options.get("host", "localhost"),
            port=options.get("port", 6379),
            path=options.get("path", ""),
            tls=context.get() if context is not None else None,
            handshake=_handshake(options),
        )


def _handshake(options: Mapping[str, Any]) -> tuple[Command, ...]:
    hello: Command = ("HELLO", 3)
    if password := options.get("password"):
        hello = (*hello, "AUTH", options.get("username") or "default", password)
    if database := options.get("db"):
        return hello, ("SELECT", database)
    return (hello,)


def _with_tls(options: Mapping[str, Any], ca_file: Path) -> dict[str, Any]:
    tls = {name: value for name, value in options.items() if name != "connection_class"}
    if ca_file != Path():
        tls["ssl_ca_certs"] = str(ca_file)
    try:
        context = SSLConnection(**tls).ssl_context
        context.get()
    except (OSError, RedisError, TypeError) as error:
        raise ValueError(f"redis.url or redis.ca_file: TLS cannot be set up: {error}") from error
    return {**tls, "connection_class": _TlsConnection, "context": context}


class _TlsConnection(SSLConnection):
    """Shares one TLS context among all connections: reading the CA certificates anew for each would block the event
    loop for 15 ms."""

    def __init__(self, *, context: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = context
