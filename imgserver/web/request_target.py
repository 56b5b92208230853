"""The forms of a request's target (RFC 9112, 3.2), made one: handlers see the origin form, or `*`.

Whose host an absolute target names changes nothing: no answer, key or signature depends on it, nor on the Host field.
"""

import re
from typing import Any

from aiohttp import hdrs
from aiohttp.http import RawRequestMessage
from yarl import URL

_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
ASTERISK = "*"
# Where the router finds nothing.
_NOWHERE = URL.build(path="/*", encoded=True)


def in_origin_form(message: RawRequestMessage) -> RawRequestMessage:
    """The message with the target that its client would have sent without a proxy, byte by byte; its own does not begin
    with a slash."""
    target = message.path
    host = _ABSOLUTE.match(target)
    if host is None:
        return _aimed(message, target, _NOWHERE)
    rest = target[host.end() :]
    if not rest and message.method == hdrs.METH_OPTIONS:
        return _aimed(message, ASTERISK, _NOWHERE)
    path = rest if rest.startswith("/") else f"/{rest}"
    return _aimed(message, path, _url_of(path))


def _aimed(message: RawRequestMessage, path: str, url: URL) -> RawRequestMessage:
    # The parser's own type has a namedtuple's method, which its stub does not tell.
    aimed: Any = message
    replaced: RawRequestMessage = aimed._replace(path=path, url=url)
    return replaced


def _url_of(path: str) -> URL:
    """As the parser makes it: yarl alone would take what follows two slashes for a host."""
    bare, _, fragment = path.partition("#")
    bare, _, query = bare.partition("?")
    return URL.build(path=bare, query_string=query, fragment=fragment, encoded=True)
