"""What an HTTP response says about an original: its status, validators and freshness lifetime (RFC 9110, RFC 9111)."""

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from multidict import MultiMapping

from imgserver.errors import ImgserverError, NotFound, SourceFailed
from imgserver.headers.caching import http_date
from imgserver.plan.rendition import CachePolicy
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
LONGEST_SHARED_SECONDS = 300

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
        cache_policy(headers),
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


def cache_policy(headers: Mapping[str, str]) -> CachePolicy:
    """What the origin allows caches to do. A server for many clients is a shared cache."""
    directives = _directives(headers)
    if "no-store" in directives:
        return CachePolicy.NO_STORE
    if "private" in directives:
        return CachePolicy.PRIVATE
    if directives.keys() & {"must-revalidate", "proxy-revalidate"} or _needs_validation(headers, directives):
        return CachePolicy.MUST_REVALIDATE
    return CachePolicy.SHARED


def max_age_seconds(headers: Mapping[str, str]) -> int | None:
    """The freshness lifetime that is left after the time in caches on the way (Age); None if the response states none.

    0 for a response that no cache may use without validation, and for one of one client only if it states no lifetime.
    A malformed lifetime counts as 0 (RFC 9111, 4.2.1). `s-maxage` lowers the lifetime below LONGEST_SHARED_SECONDS; a
    longer one addresses caches that the origin can purge, and this value also bounds the lifetime in browsers.
    """
    directives = _directives(headers)
    if "no-store" in directives or _needs_validation(headers, directives):
        return 0
    lifetime = _stated_seconds(directives, "max-age")
    if lifetime is None:
        lifetime = 0 if "private" in directives else _until_expires(headers)
    shared = _stated_seconds(directives, "s-maxage")
    if shared is not None and shared < LONGEST_SHARED_SECONDS:
        lifetime = shared if lifetime is None else min(lifetime, shared)
    if lifetime is None:
        return None
    return max(0, lifetime - (_seconds(headers.get("Age", "").strip()) or 0))


def _needs_validation(headers: Mapping[str, str], directives: Mapping[str, str]) -> bool:
    """Whether no cache may use the response without validation. Pragma counts without Cache-Control only (RFC 9111,
    5.4), and `Vary: *` means that no other request gets the same response (4.1)."""
    pragma = not directives and "no-cache" in combined(headers, "Pragma").lower()
    return "no-cache" in directives or pragma or "*" in combined(headers, "Vary")


def _stated_seconds(directives: Mapping[str, str], name: str) -> int | None:
    if name not in directives:
        return None
    return _seconds(directives[name]) or 0


def _directives(headers: Mapping[str, str]) -> dict[str, str]:
    """The directives of Cache-Control in lower case, with their arguments."""
    found = _DIRECTIVE.findall(combined(headers, "Cache-Control"))
    return {name.lower(): quoted or plain for name, quoted, plain in found}


def _seconds(text: str) -> int | None:
    return min(int(text), MAX_AGE_SECONDS) if _SECONDS.fullmatch(text) else None


def _until_expires(headers: Mapping[str, str]) -> int | None:
    """Measured by the origin's own clock if it sends a Date. An Expires that is not a date, such as 0, is in the past
    (RFC 9111, 5.3)."""
    if "Expires" not in headers:
        return None
    expires, date = _epoch(headers["Expires"]), _epoch(headers.get("Date"))
    if expires is None:
        return 0
    return min(max(0, expires - (int(time.time()) if date is None else date)), MAX_AGE_SECONDS)


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
