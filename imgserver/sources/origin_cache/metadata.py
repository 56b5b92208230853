"""The metadata of a local copy of an original: as a value, and as the content of the file next to the copy."""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import cast

from imgserver.headers.caching import HTTP_DATES
from imgserver.plan.rendition import CachePolicy, Fingerprint
from imgserver.sources.origin import OriginResponse, Validators

SCHEMA = 3
LIMIT_BYTES = 65_536
# The record of a rendition has no space for a longer ETag; a digest takes its place.
MAX_ETAG_LENGTH = 128

CHECKSUM_LENGTH = 32
# Bounds of numbers that no origin and no clock exceeds: bytes or seconds, and seconds of the epoch.
MAX_COUNT = 2**53
LATEST_EPOCH = 2**40

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredBody:
    """The bytes of a copy, measured during the download. `digest` is their SHA-256 in hexadecimal, `length` in
    bytes."""

    digest: str
    length: int


@dataclass(frozen=True, slots=True)
class OriginMetadata:
    """`key` names the original. `max_age_seconds` is the lifetime that the origin stated, None if it stated none.
    `validated` is the time of the last request to the origin in seconds of the epoch. `body` is None if only the
    metadata was requested. `cache_policy` and `complete`: as in `OriginResponse`."""

    key: str
    validators: Validators
    max_age_seconds: int | None
    validated: float
    body: StoredBody | None = None
    cache_policy: CachePolicy = CachePolicy.SHARED
    complete: bool = True

    @classmethod
    def of(cls, key: str, response: OriginResponse, *, validated: float) -> "OriginMetadata":
        return cls(
            key,
            response.validators,
            response.max_age_seconds,
            validated,
            cache_policy=response.cache_policy,
            complete=response.complete,
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """Made of the validators if they can tell two states apart, so that a request for the metadata gives the same
        fingerprint as a download; otherwise of the digest of the body."""
        validators = self.validators
        if self.body is not None and validators.size_bytes is None:
            # A chunked response states no length, but a request for the metadata of the same file may.
            validators = replace(validators, size_bytes=self.body.length)
        state = state_of(validators)
        if state is not None:
            return Fingerprint(state)
        assert self.body is not None
        return Fingerprint(f"body {self.body.digest[:32]}")


def state_of(validators: Validators) -> str | None:
    """A text that differs for two states of a file; None if the validators cannot tell them apart. A modification time
    in whole seconds needs the size with it."""
    if validators.etag is not None:
        return f"etag {validators.etag if len(validators.etag) <= MAX_ETAG_LENGTH else _digest(validators.etag)}"
    if validators.modified is not None and validators.size_bytes is not None:
        return f"time {validators.modified} {validators.size_bytes}"
    return None


def encode(metadata: OriginMetadata) -> bytes:
    """Raises ValueError if the result is longer than LIMIT_BYTES."""
    assert metadata.body is not None
    validators, body = metadata.validators, metadata.body
    fields = (
        SCHEMA,
        metadata.key,
        validators.etag,
        validators.modified,
        validators.size_bytes,
        metadata.max_age_seconds,
        metadata.validated,
        body.digest,
        body.length,
        metadata.cache_policy,
        metadata.complete,
    )
    # Not orjson: a path may hold surrogates, which are not valid Unicode.
    text = json.dumps(fields).encode()
    if len(text) > LIMIT_BYTES - CHECKSUM_LENGTH:
        raise ValueError("The metadata is too long")
    return _checksum(text) + text


def decode(data: bytes) -> OriginMetadata | None:
    """None for anything but one whole result of `encode` with the present schema. Whoever can write the file can write
    its checksum, so every field must also have a plausible value: the digest is a part of a path, and the ETag is sent
    in a header."""
    text = data[CHECKSUM_LENGTH:]
    if _checksum(text) != data[:CHECKSUM_LENGTH]:
        return None
    try:
        schema, *fields = json.loads(text)
        if schema != SCHEMA or not _are_plausible(*fields):
            return None
    except (ValueError, TypeError, RecursionError):  # no JSON, no list, or another number of fields
        return None
    key, etag, modified, size, max_age, validated, digest, length, cache_policy, complete = fields
    body = StoredBody(digest, length)
    validators, policy = Validators(etag, modified, size), CachePolicy(cache_policy)
    return OriginMetadata(key, validators, max_age, validated, body, policy, complete)


def _are_plausible(  # in the order of `encode`
    key: object,
    etag: object,
    modified: object,
    size: object,
    max_age: object,
    validated: object,
    digest: object,
    length: object,
    cache_policy: object,
    complete: object,
) -> bool:
    return (
        isinstance(key, str)
        and (etag is None or (isinstance(etag, str) and _CONTROL.search(etag) is None))
        and (modified is None or (type(modified) is int and modified in HTTP_DATES))
        and (size is None or _is_count(size))
        and (max_age is None or _is_count(max_age))
        and type(validated) in (int, float)
        and 0 <= cast(float, validated) <= LATEST_EPOCH
        and isinstance(digest, str)
        and _DIGEST.fullmatch(digest) is not None
        and _is_count(length)
        and cache_policy in tuple(CachePolicy)
        and type(complete) is bool
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:CHECKSUM_LENGTH].encode()
