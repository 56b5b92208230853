"""The forms of a request target (RFC 9112, 3.2): handlers see the origin form, or `*`.

The host of an absolute target changes nothing: no response, key or signature depends on it, nor on the Host header.
"""

import re
from typing import Any, cast

from aiohttp import hdrs
from aiohttp.http import RawRequestMessage
from yarl import URL

_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
ASTERISK = "*"
# A path that no route matches.
_UNROUTED = URL.build(path="/*", encoded=True)


def in_origin_form(message: RawRequestMessage) -> RawRequestMessage:
    """The message with the target that its client would have sent without a proxy, byte for byte. The target of
    `message` does not begin with a slash."""
    target = message.path
    host = _ABSOLUTE.match(target)
    if host is None:
        return replace_fields(message, path=target, url=_UNROUTED)
    rest = target[host.end() :]
    if not rest and message.method == hdrs.METH_OPTIONS:
        return replace_fields(message, path=ASTERISK, url=_UNROUTED)
    path = rest if rest.startswith("/") else f"/{rest}"
    return replace_fields(message, path=path, url=_url_of(path))


def replace_fields(message: RawRequestMessage, **fields: Any) -> RawRequestMessage:
    """A copy of the message with other values for these fields."""
    # The type of the C parser has this method of named tuples, but its stub does not declare it.
    replaced: RawRequestMessage = cast(Any, message)._replace(**fields)
    return replaced


def _url_of(path: str) -> URL:
    """The URL that the parser makes: yarl alone would take what follows two slashes for a host."""
    bare, _, fragment = path.partition("#")
    bare, _, query = bare.partition("?")
    return URL.build(path=bare, query_string=query, fragment=fragment, encoded=True)
