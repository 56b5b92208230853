"""The record: a rendition as bytes, the same in every tier, verified when it is read.

    magic 3 | schema 1 | header bytes 4 | body bytes 8 | checksum 16 | header (JSON list) | body

The checksum covers everything else, and the header has the whole key. A shifted reply, a collision of file names, a
torn file, a flipped bit or an older schema raises `Corrupt`; it never yields a wrong rendition. Whoever can write a
record can write its checksum, so every field must also have a plausible value: a line break in a media type would begin
another header, and a time in the year 300,000 has no date.
"""

import re
import struct
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson
import xxhash

from imgserver.cache.cache_tags import is_generation
from imgserver.headers.caching import HTTP_DATES
from imgserver.plan.plan import Dims
from imgserver.plan.rendition import CachePolicy, Fingerprint, GroupGenerations, Rendition

MAGIC = b"imr"
SCHEMA = 4

# `peek` needs so much of a record's beginning. `encode` and `decode` refuse a longer header.
HEAD_BYTES = 8192

_PREFIX = struct.Struct(">3sBIQ16s")
_CHECKED = _PREFIX.size - 16
# More groups could push the header beyond its limit.
_MAX_GROUPS = 100

# Why bytes are not a record of a key.
REASONS = ("empty", "length", "magic", "schema", "checksum", "header", "field", "key")

# What the fields of a record may hold. Times are in seconds of the epoch.
MAX_DIMENSION = 10_000_000
MAX_FINGERPRINT_LENGTH = 1024
MAX_AGE_SECONDS = 2**53
MAX_RENDER_SECONDS = 86_400
# No record lives for a century, and no clock is so far ahead.
MAX_LIFETIME_SECONDS = 100 * 366 * 86_400
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,63}/[A-Za-z0-9!#$&^_.+-]{1,63}(?:;[\x20-\x7e]{1,63})?")
_ETAG = re.compile(r"[\x21\x23-\x7e]{1,128}")
_FORMAT = re.compile(r"[A-Za-z0-9+._-]{0,32}")


class Corrupt(Exception):
    """These bytes are not a record of this key. `reason` is one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encode(key: str, rendition: Rendition) -> bytes:
    """Raises ValueError if a record cannot hold a field: text that is not Unicode, a number beyond 64 bits, too many
    groups, a value that `decode` would refuse."""
    header = _header(key, rendition)
    body = rendition.body
    checked = _PREFIX.pack(MAGIC, SCHEMA, len(header), len(body), b"")[:_CHECKED]
    return b"".join((checked, _checksum(checked, header, body), header, body))


def decode(key: str, data: bytes) -> Rendition:
    """Raises `Corrupt`, and nothing else, for anything but the whole record of `key`."""
    header_bytes, body_bytes, checksum = _lengths(data)
    start = _PREFIX.size + header_bytes
    if len(data) != start + body_bytes:
        raise Corrupt("length")
    view = memoryview(data)
    if _checksum(view[:_CHECKED], view[_PREFIX.size :]) != checksum:
        raise Corrupt("checksum")
    fields = _fields(data[_PREFIX.size : start])
    if fields[0] != key:
        raise Corrupt("key")
    return _rendition(fields, data[start:])


def peek(head: bytes) -> tuple[str, float | None, GroupGenerations]:
    """Key, `expires` and generations, from the first HEAD_BYTES of a record: for sweeps. Verifies the form, not the
    checksum. Raises `Corrupt`."""
    header_bytes, _, _ = _lengths(head)
    header = head[_PREFIX.size : _PREFIX.size + header_bytes]
    if len(header) != header_bytes:
        raise Corrupt("length")
    fields = _fields(header)
    return fields[0], fields[-2], _generations(fields[-1])


def _lengths(data: bytes) -> tuple[int, int, bytes]:
    if len(data) < _PREFIX.size:
        raise Corrupt("length" if data else "empty")
    magic, schema, header_bytes, body_bytes, checksum = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise Corrupt("magic")
    if schema != SCHEMA:
        raise Corrupt("schema")
    if header_bytes > HEAD_BYTES - _PREFIX.size:
        raise Corrupt("length")
    return header_bytes, body_bytes, checksum


def _checksum(*parts: bytes | memoryview) -> bytes:
    """Detects accidents, not attacks: whoever can write a record can write its checksum. XXH3 takes a tenth of the time
    of SHA-256."""
    hasher = xxhash.xxh3_128()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def _header(key: str, rendition: Rendition) -> bytes:
    size = rendition.size
    if len(rendition.generations) > _MAX_GROUPS:
        raise ValueError(f"A record has at most {_MAX_GROUPS} groups")
    fields = (
        key,
        rendition.media_type,
        rendition.etag,
        size.width,
        size.height,
        size.orientation,
        size.frames,
        rendition.source_format,
        rendition.fingerprint,
        rendition.modified,
        rendition.max_age_seconds,
        rendition.cache_policy,
        rendition.created,
        rendition.render_seconds,
        rendition.fresh_until,
        rendition.expires,
        rendition.generations,
    )
    if not _are_plausible(fields):
        raise ValueError("A record cannot hold this rendition: a field has an implausible value")
    try:
        header = orjson.dumps(fields)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"A record cannot hold this rendition: {error}") from error
    if len(header) > HEAD_BYTES - _PREFIX.size:
        raise ValueError("The header of a record is too long")
    return header


_TEXT = (str,)
_WHOLE = (int,)
_WHOLE_OR_NONE = (int, type(None))
_NUMBER = (int, float)
_TIME = (int, float, type(None))

# The types that each field of the header may have, in the order of `_header`.
_TYPES: tuple[tuple[type, ...], ...] = (
    *(_TEXT,) * 3,
    *(_WHOLE,) * 4,
    *(_TEXT,) * 2,
    *(_WHOLE_OR_NONE,) * 2,
    _TEXT,
    *(_NUMBER,) * 2,
    *(_TIME,) * 2,
    (list,),
)


# No record has any other.
_STORED_POLICIES = frozenset(policy for policy in CachePolicy if policy.allows_shared_caches)


@lru_cache(maxsize=256)
def _are_fields(types: tuple[type, ...]) -> bool:
    """Cached: valid headers have a few dozen combinations of types."""
    return all(one in allowed for one, allowed in zip(types, _TYPES, strict=True))


def _fields(header: bytes) -> list[Any]:
    try:
        fields = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise Corrupt("header") from error
    if type(fields) is not list or len(fields) != len(_TYPES):
        raise Corrupt("header")
    if not _are_fields(tuple(map(type, fields))) or len(fields[-1]) > _MAX_GROUPS:
        raise Corrupt("header")
    for pair in fields[-1]:
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not str or type(pair[1]) is not str:
            raise Corrupt("header")
    if not _are_plausible(fields):
        raise Corrupt("field")
    return fields


def _are_plausible(fields: Sequence[Any]) -> bool:
    """Whether each field, of the right type, has a value that a server may have written. False for NaN."""
    _, media_type, etag, width, height, orientation, frames, source_format, *rest = fields
    fingerprint, modified, max_age_seconds, cache_policy, created, render_seconds, *ends, generations = rest
    latest = time.time() + MAX_LIFETIME_SECONDS
    return (
        _MEDIA_TYPE.fullmatch(media_type) is not None
        and _ETAG.fullmatch(etag) is not None
        and 1 <= width <= MAX_DIMENSION
        and 1 <= height <= MAX_DIMENSION
        and 1 <= orientation <= 8
        and 1 <= frames <= MAX_DIMENSION
        and _FORMAT.fullmatch(source_format) is not None
        and len(fingerprint) <= MAX_FINGERPRINT_LENGTH
        and (modified is None or modified in HTTP_DATES)
        and (max_age_seconds is None or 0 <= max_age_seconds <= MAX_AGE_SECONDS)
        and cache_policy in _STORED_POLICIES
        and 0 <= created <= latest
        and 0 <= render_seconds <= MAX_RENDER_SECONDS
        and all(end is None or 0 <= end <= latest for end in ends)
        and all(is_generation(group, token) for group, token in generations)
    )


def _generations(pairs: list[list[str]]) -> GroupGenerations:
    return tuple((group, token) for group, token in pairs)


def _rendition(fields: list[Any], body: bytes) -> Rendition:
    _, media_type, etag, width, height, orientation, frames, source_format, *rest = fields
    fingerprint, modified, max_age_seconds, cache_policy, created, render_seconds, fresh_until, *last = rest
    expires, generations = last
    return Rendition(
        body=body,
        media_type=media_type,
        etag=etag,
        size=Dims(width, height, orientation, frames),
        source_format=source_format,
        fingerprint=Fingerprint(fingerprint),
        modified=modified,
        created=created,
        render_seconds=render_seconds,
        fresh_until=fresh_until,
        expires=expires,
        max_age_seconds=max_age_seconds,
        cache_policy=CachePolicy(cache_policy),
        generations=_generations(generations),
    )
