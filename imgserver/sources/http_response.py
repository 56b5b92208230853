"""What an HTTP response says about an original: its status, validators and freshness lifetime (RFC 9110, RFC 9111)."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from multidict import MultiMapping

from imgserver.errors import ImgserverError, NotFound, SourceFailed
from imgserver.headers.caching import http_date
from imgserver.sources.origin import OriginResponse, Validators

# 203 is a 200 that a proxy has changed, such as its header.
USABLE = frozenset({200, 203})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# 403 is a bucket's response for a name that does not exist, to clients that may not list it. 401 is a failure: the
# credentials are wrong, and stale originals are better than none.
ABSENT = frozenset({403, 404, 410, 451})
TRANSIENT = frozenset({500, 502, 503, 504})

# A longer ETag is ignored: every record would store it.
MAX_ETAG_LENGTH = 256
MAX_AGE_SECONDS = 1 << 31

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
_DIRECTIVE = re.compile(r'([A-Za-z-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,;"]+)))?')
_SECONDS = re.compile(r"[0-9]{1,10}")


class TransientError(Exception):
    """A failure that another attempt may avoid. `error` is raised after the last attempt."""

    def __init__(self, error: ImgserverError) -> None:
        super().__init__(str(error))
        self.error = error


def refuse_unusable(status: int) -> None:
    """Returns for a response whose body is the original. Raises NotFound, SourceFailed, TransientError."""
    if status in ABSENT:
        raise NotFound()
    if status not in USABLE:
        failure = SourceFailed(f"the original's server answered {status}")
        raise TransientError(failure) if status in TRANSIENT else failure


def refuses_head(status: int) -> bool:
    """Whether a GET may succeed where HEAD failed with this status. Besides 405 and 501 these are most 4xx: a URL may
    be signed for GET alone (403), and a server that does not know HEAD may answer 400."""
    return status == 501 or (400 <= status < 500 and status not in (404, 410, 429))


def response_of(headers: Mapping[str, str]) -> OriginResponse:
    """`headers` ignores the case of names. Malformed fields count as absent."""
    return OriginResponse(
        Validators(
            etag=_etag(headers.get("ETag", "").strip()),
            modified=_epoch(headers.get("Last-Modified")),
            size_bytes=content_length(headers),
        ),
        max_age_seconds(headers),
        complete=_states_length(headers),
    )


def combined(headers: Mapping[str, str], name: str) -> str:
    """The value of a header that is a list, from all its lines (RFC 9110, 5.3); "" if there is none."""
    lines = headers.getall(name, []) if isinstance(headers, MultiMapping) else [headers.get(name, "")]
    return ", ".join(lines)


def content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _states_length(headers: Mapping[str, str]) -> bool:
    """If not, the end of the connection ends the body (RFC 9112, 6.3), whole or not."""
    return content_length(headers) is not None or "chunked" in headers.get("Transfer-Encoding", "").lower()


def conditions(known: Validators | None) -> dict[str, str]:
    """The header fields of a conditional request: the server omits the body if it is unchanged since `known`."""
    if known is None:
        return {}
    fields = {}
    if known.etag is not None:
        fields["If-None-Match"] = known.etag
    if known.modified is not None:
        fields["If-Modified-Since"] = http_date(known.modified)
    return fields


def max_age_seconds(headers: Mapping[str, str]) -> int | None:
    """The freshness lifetime that is left after the time in caches on the way (Age); None if the response states none.

    `s-maxage` is ignored: it addresses caches that the origin can purge, and this value also bounds the lifetime in
    browsers. `private` gives 0, because a server for many clients is a shared cache.
    """
    directives = _directives(headers.get("Cache-Control", ""))
    if {"no-store", "no-cache", "private"} & set(directives):
        return 0
    lifetime = _seconds(directives.get("max-age", ""))
    if lifetime is None:
        lifetime = _until_expires(headers)
    if lifetime is None:
        return None
    return max(0, lifetime - (_seconds(headers.get("Age", "").strip()) or 0))


def _directives(field: str) -> dict[str, str]:
    return {name.lower(): quoted or plain for name, quoted, plain in _DIRECTIVE.findall(field)}


def _seconds(text: str) -> int | None:
    return min(int(text), MAX_AGE_SECONDS) if _SECONDS.fullmatch(text) else None


def _until_expires(headers: Mapping[str, str]) -> int | None:
    """Measured by the origin's own clock. An Expires that is not a date, such as 0, is in the past (RFC 9111, 5.3)."""
    if "Expires" not in headers:
        return None
    expires, date = _epoch(headers["Expires"]), _epoch(headers.get("Date"))
    if expires is None:
        return 0
    return None if date is None else min(max(0, expires - date), MAX_AGE_SECONDS)


def _etag(text: str) -> str | None:
    return text if len(text) <= MAX_ETAG_LENGTH and _ENTITY_TAG.fullmatch(text) else None


def _epoch(date: str | None) -> int | None:
    if date is None:
        return None
    try:
        seconds = int(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if seconds >= 0 else None
