"""The metadata of a local copy of an original: as a value, and as the content of the file next to the copy."""

import hashlib
import json
from dataclasses import dataclass, replace

from imgserver.plan.rendition import CachePolicy, Fingerprint
from imgserver.sources.origin import OriginResponse, Validators

SCHEMA = 3
LIMIT_BYTES = 65_536
# The record of a rendition has no space for a longer ETag; a digest takes its place.
MAX_ETAG_LENGTH = 128

CHECKSUM_LENGTH = 32


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
    """None for anything but one whole result of `encode` with the present schema."""
    text = data[CHECKSUM_LENGTH:]
    if _checksum(text) != data[:CHECKSUM_LENGTH]:
        return None
    schema, *fields = json.loads(text)
    if schema != SCHEMA:
        return None
    key, etag, modified, size, max_age, validated, digest, length, cache_policy, complete = fields
    body = StoredBody(digest, length)
    validators, policy = Validators(etag, modified, size), CachePolicy(cache_policy)
    return OriginMetadata(key, validators, max_age, validated, body, policy, complete)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:CHECKSUM_LENGTH].encode()
