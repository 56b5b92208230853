"""What an HTTP answer says of an original: whether it is one, its validators, its lifetime (RFC 9110, 9111)."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from imgserver.errors import ImgserverError, NotFound, SourceFailed
from imgserver.headers.caching import http_date
from imgserver.sources.origin import OriginResponse, Validators

REDIRECTS = frozenset({301, 302, 303, 307, 308})
# 403: what a bucket answers for a name it does not have, to those who may not list it. 401 stays a failure: our
# credentials are wrong, and pictures that were there before are better answered stale than as gone.
ABSENT = frozenset({403, 404, 410, 451})
MAY_PASS = frozenset({500, 502, 503, 504})

# A longer one is noise, and would be kept in every record.
LONGEST_ETAG = 256
LONGEST_AGE = 1 << 31

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
_DIRECTIVE = re.compile(r'([A-Za-z-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,;"]+)))?')
_SECONDS = re.compile(r"[0-9]{1,10}")


class TransientError(Exception):
    """A failure that another attempt may not meet; `error` is what to raise when none is left."""

    def __init__(self, error: ImgserverError) -> None:
        super().__init__(str(error))
        self.error = error


def check(status: int, headers: Mapping[str, str]) -> None:
    """Raises unless the answer is a whole body as it was written: NotFound, SourceFailed, TransientError."""
    if status in ABSENT:
        raise NotFound()
    if status != 200:
        failure = SourceFailed(f"the original's server answered {status}")
        raise TransientError(failure) if status in MAY_PASS else failure
    if headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        # Small on the way, boundless when it is unpacked; and it was not asked for.
        raise SourceFailed("the original's server compressed its answer unasked")


def refuses_head(status: int) -> bool:
    """Not only 405 and 501: an address may be signed for GET alone (403), and who knows no HEAD may say 400."""
    return status == 501 or (400 <= status < 500 and status not in (404, 410, 429))


def told(headers: Mapping[str, str]) -> OriginResponse:
    """Names in `headers` are found in any case. What is malformed counts as absent."""
    return OriginResponse(
        Validators(
            etag=_etag(headers.get("ETag", "").strip()),
            modified=_epoch(headers.get("Last-Modified")),
            size_bytes=content_length(headers),
        ),
        max_age_seconds(headers),
    )


def content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def conditions(known: Validators | None) -> dict[str, str]:
    """The fields that ask for the body only if it is another."""
    if known is None:
        return {}
    fields = {}
    if known.etag is not None:
        fields["If-None-Match"] = known.etag
    if known.modified is not None:
        fields["If-Modified-Since"] = http_date(known.modified)
    return fields


def max_age_seconds(headers: Mapping[str, str]) -> int | None:
    """Left of it, after the time it spent in caches on the way; None: the answer says nothing.

    `s-maxage` is not followed: it speaks to caches that the origin can purge, and what is told here also bounds what we
    tell browsers. `private` allows no shared cache, which is what we are.
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
    return min(int(text), LONGEST_AGE) if _SECONDS.fullmatch(text) else None


def _until_expires(headers: Mapping[str, str]) -> int | None:
    """By the origin's own clock. An Expires that is no date, such as 0, is in the past (RFC 9111, 5.3)."""
    if "Expires" not in headers:
        return None
    expires, date = _epoch(headers["Expires"]), _epoch(headers.get("Date"))
    if expires is None:
        return 0
    return None if date is None else min(max(0, expires - date), LONGEST_AGE)


def _etag(text: str) -> str | None:
    return text if len(text) <= LONGEST_ETAG and _ENTITY_TAG.fullmatch(text) else None


def _epoch(date: str | None) -> int | None:
    if date is None:
        return None
    try:
        seconds = int(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if seconds >= 0 else None
