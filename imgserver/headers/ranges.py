"""A single byte range of a complete body (RFC 9110, 14): pure functions of header texts."""

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{1,18})?-([0-9]{1,18})?[ \t]*")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to, but not including, `stop`; empty when the range is outside the body."""

    start: int
    stop: int

    @property
    def is_empty(self) -> bool:
        return self.start >= self.stop

    def content_range(self, length: int) -> str:
        return f"bytes */{length}" if self.is_empty else f"bytes {self.start}-{self.stop - 1}/{length}"


def parse_range(field: str | None, length: int) -> ByteRange | None:
    """The requested range. None when the whole body is the response: for no range, several ranges, or a malformed one.

    An empty range means 416 (14.1.2): it is well formed, but the body has none of its bytes.
    """
    match = _ONE_RANGE.fullmatch(field) if field else None
    if match is None or (match[1] is None and match[2] is None):
        return None
    if match[1] is None:
        return ByteRange(max(0, length - int(match[2])), length) if int(match[2]) else ByteRange(length, length)
    start, last = int(match[1]), length - 1 if match[2] is None else int(match[2])
    if last < start and match[2] is not None:
        return None
    return ByteRange(start, min(last + 1, length))


def if_range_matches(if_range: str | None, etag: str) -> bool:
    """Whether the range applies. If-Range matches a strong ETag only (13.1.5): weak ETags, and dates with their
    resolution of one second, never match."""
    return if_range is None or if_range.strip() == f'"{etag}"'
