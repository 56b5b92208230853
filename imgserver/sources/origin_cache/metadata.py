"""What is known of an original that an origin gave: as a value, and as the text that stands beside its bytes."""

import hashlib
import json
from dataclasses import dataclass, replace
from enum import Enum

from imgserver.plan.rendition import Fingerprint
from imgserver.sources.origin import OriginResponse, Validators

SCHEMA = 1
LIMIT_BYTES = 65_536
# A record has no room for a longer one.
ETAG_LENGTH = 128

_CHECKSUM = 32


@dataclass(frozen=True, slots=True)
class StoredBody:
    """The bytes as they were counted while they came. `digest` is their SHA-256 in hexadecimal."""

    digest: str
    length: int


@dataclass(frozen=True, slots=True)
class OriginMetadata:
    """`checked`: when the origin was asked last, in seconds of the epoch; `body` is None where it was only asked."""

    key: str
    validators: Validators
    max_age_seconds: int | None
    checked: float
    body: StoredBody | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """By the validators wherever they can tell two states apart, so that a look tells what a download did."""
        validators = self.validators
        if self.body is not None and validators.size_bytes is None:
            # A body in chunks has a length as well, which a look at it may be told.
            validators = replace(validators, size_bytes=self.body.length)
        text = state_of(validators)
        if text is not None:
            return Fingerprint(text)
        assert self.body is not None
        return Fingerprint(f"body {self.body.digest[:32]}")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long facts are good, in seconds: the origin's own word between `least` and `most`, or `silent`; then `renew`
    more while they are asked for anew behind an answer; and up to `error` after their end while the origin fails."""

    least: float
    most: float
    silent: float
    renew: float
    error: float


class Freshness(Enum):
    FRESH = "fresh"
    USABLE = "usable"
    """To be used at once, and renewed behind that."""
    OLD = "old"
    """Of use only when the origin fails."""
    OVER = "over"


def state_of(validators: Validators) -> str | None:
    """None: these validators cannot tell two states of a file apart. A time of whole seconds needs the size with it."""
    if validators.etag is not None:
        return f"etag {validators.etag if len(validators.etag) <= ETAG_LENGTH else _digest(validators.etag)}"
    if validators.modified is not None and validators.size_bytes is not None:
        return f"time {validators.modified} {validators.size_bytes}"
    return None


def age_of(facts: OriginMetadata, *, now: float, lifetimes: Lifetimes) -> Freshness:
    told = lifetimes.silent if facts.max_age_seconds is None else facts.max_age_seconds
    lifetime = min(max(told, lifetimes.least), lifetimes.most)
    # Checked in the future: the clock was set back, and nobody knows how old this is.
    past = now - facts.checked - lifetime if now >= facts.checked else 0.0
    if past < 0:
        return Freshness.FRESH
    if past < lifetimes.renew:
        return Freshness.USABLE
    return Freshness.OLD if past < lifetimes.error else Freshness.OVER


def learnt(key: str, told: OriginResponse, *, checked: float, body: StoredBody | None = None) -> OriginMetadata:
    return OriginMetadata(key, told.validators, told.max_age_seconds, checked, body)


def encode(facts: OriginMetadata) -> bytes:
    """ValueError: they are too long to be kept."""
    assert facts.body is not None
    validators, body = facts.validators, facts.body
    fields = (
        SCHEMA,
        facts.key,
        validators.etag,
        validators.modified,
        validators.size_bytes,
        facts.max_age_seconds,
        facts.checked,
        body.digest,
        body.length,
    )
    # Not orjson: a path may hold what is no Unicode.
    text = json.dumps(fields).encode()
    if len(text) > LIMIT_BYTES - _CHECKSUM:
        raise ValueError("These facts are too long")
    return _checksum(text) + text


def decode(data: bytes) -> OriginMetadata | None:
    """None for whatever is not one whole text of `encode`."""
    text = data[_CHECKSUM:]
    if _checksum(text) != data[:_CHECKSUM]:
        return None
    schema, *fields = json.loads(text)
    if schema != SCHEMA:
        return None
    key, etag, modified, size, max_age, checked, digest, length = fields
    return OriginMetadata(key, Validators(etag, modified, size), max_age, checked, StoredBody(digest, length))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_CHECKSUM].encode()
