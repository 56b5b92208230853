"""Requests that reach no handler because they are no well-formed requests of HTTP/1, and the error of each."""

import re
from functools import lru_cache

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.web_protocol import ERROR
from multidict import CIMultiDict, CIMultiDictProxy

from imgserver.errors import HeaderTooLarge, MalformedRequest, ServerFault, TargetTooLong
from imgserver.web.request_target import replace_fields

# The parser reports only the limit that was exceeded, so the two limits must differ.
MAX_TARGET_BYTES = 8190
MAX_FIELD_BYTES = 8192
# A header that is incomplete after this many bytes is refused. A connection could hold a megabyte otherwise.
MAX_HEADER_BYTES = 64 << 10

_NO_FIELDS = CIMultiDictProxy(CIMultiDict[str]())

# Set on a request that the parser accepts although it is malformed.
MALFORMED = web.RequestKey("malformed", MalformedRequest)

# RFC 9110, 7.2: a registered name, an IPv4 address or an IP literal, and an optional port. It may be empty.
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.vV%~_-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?", re.ASCII)


def error_of(exc: BaseException | None, status: int) -> Exception:
    """The error for what the framework could not parse, or raised outside of all handlers; `status` is its choice.

    A malformed request is never cached: a header that only one client sends (a huge Cookie) must not become the CDN's
    response to all requests for that URL.
    """
    if status >= 500:
        return exc if isinstance(exc, Exception) else ServerFault()
    if isinstance(exc, LineTooLong):
        if exc.args[1] == MAX_TARGET_BYTES:
            return TargetTooLong(f"The URL is over {MAX_TARGET_BYTES} bytes")
        return HeaderTooLarge(f"A header field is over {MAX_FIELD_BYTES} bytes")
    if isinstance(exc, BadHttpMessage) and exc.message.startswith("Too many headers"):
        return HeaderTooLarge("The header has too many fields")
    return MalformedRequest()


def fault_of(message: RawRequestMessage) -> MalformedRequest | None:
    """Why a message that the parser accepts is malformed; None for all others."""
    if message.version < HttpVersion10:
        return MalformedRequest("HTTP/0.9 is not supported")
    if not is_host(message.headers.get(hdrs.HOST, "")):
        return MalformedRequest("Host: must be a host name or an address, with an optional port")
    return None


@lru_cache(1024)
def is_host(value: str) -> bool:
    """Whether a request with this Host is well formed (RFC 9112, 3.2). Few values occur."""
    return _HOST.fullmatch(value) is not None


def without_method(message: RawRequestMessage) -> RawRequestMessage:
    """The message of a request that was not parsed, as the log shows it: the framework would show `UNKNOWN /`."""
    if message is not ERROR:
        return message
    return replace_fields(message, method="-", path="-", version=HttpVersion11, headers=_NO_FIELDS)
