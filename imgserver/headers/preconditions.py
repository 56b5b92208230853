"""Conditional requests for a rendition (RFC 9110, 13): pure functions of header texts.

They are evaluated in the order of section 13.2.2: If-Match or If-Unmodified-Since, which may fail with 412; then
If-None-Match or If-Modified-Since, which may end with 304. If-Range comes last (`headers/ranges.py`).
"""

import re
from email.utils import parsedate_to_datetime

# The longest form of an HTTP-date: `Wednesday, 06-Nov-94 08:49:37 GMT`. Two lines of a field are longer.
_DATE_CHARACTERS = 33
_ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


def is_failed(*, match: str | None, unmodified_since: str | None, etag: str, modified: int | None) -> bool:
    """Whether the response is 412. If-Match takes precedence over If-Unmodified-Since, and a tag in it matches by
    strong comparison; a malformed date counts as absent, and so does any date if `modified`, in seconds of the epoch,
    is unknown."""
    if match is not None:
        return match.strip() != "*" and etag not in (tag for weak, tag in _ENTITY_TAG.findall(match) if not weak)
    since = _epoch(unmodified_since)
    return since is not None and modified is not None and modified > since


def is_not_modified(*, none_match: str | None, modified_since: str | None, etag: str, modified: int | None) -> bool:
    """Whether the response to a GET or HEAD is 304. If-None-Match takes precedence over If-Modified-Since, and a tag in
    it matches by weak comparison; a malformed date counts as absent."""
    if none_match is not None:
        return _is_any(none_match, etag)
    since = _epoch(modified_since)
    return since is not None and modified is not None and modified <= since


def _is_any(field: str, etag: str) -> bool:
    """Weak comparison (8.8.3.2): only the opaque parts are compared."""
    # The field nearly always contains this one tag.
    return (
        field == f'"{etag}"' or field.strip() == "*" or any(etag == opaque for _, opaque in _ENTITY_TAG.findall(field))
    )


def _epoch(date: str | None) -> float | None:
    if date is None or len(date) > _DATE_CHARACTERS:
        return None
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
