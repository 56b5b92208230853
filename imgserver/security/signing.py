"""Signed URLs: HMAC-SHA256 over the exact bytes that are parsed afterwards.

The first key signs and every key verifies. So keys are rotated without a gap: put the new key first, wait until no page
and no cache holds a URL that the old key signed, then remove the old key.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Literal

from annotated_types import Ge, Le, doc

from imgserver.errors import SignatureRefused

LEAST_KEY_BYTES = 16
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_SOURCE = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key for the named `sources`; for all sources if there are none."""

    secret: bytes = field(repr=False)
    sources: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        """The name of the key in logs and lists. It distinguishes keys and reveals nothing else about them."""
        return sha256(b"imgserver key id\0" + self.secret).hexdigest()[:8]

    def covers(self, source: str) -> bool:
        return not self.sources or source in self.sources

    def serialize(self) -> str:
        """The key as it is written in the settings; `read_key` is the inverse."""
        sources = "+".join(sorted(self.sources))
        return f"{sources}={self.secret.hex()}" if sources else self.secret.hex()


def read_key(text: str) -> SigningKey:
    """Parses hex digits, with `shop=` or `shop+press=` before them for a key that covers only these sources.

    Raises ValueError, whose text never shows the digits.
    """
    names, equals, digits = text.strip().rpartition("=")
    sources = names.split("+") if equals else []
    if not all(map(_SOURCE.fullmatch, sources)):
        raise ValueError("has something other than names of sources, joined by +, before the =")
    if not digits:
        raise ValueError("is empty")
    if not _HEX.fullmatch(digits):
        raise ValueError("is not made of pairs of hex digits")
    secret = bytes.fromhex(digits)
    if len(secret) < LEAST_KEY_BYTES:
        raise ValueError(f"has {len(secret)} bytes; at least {LEAST_KEY_BYTES} are needed")
    return SigningKey(secret, frozenset(sources))


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in order, the signing key first. `required`: URLs without a signature are refused."""

    keys: tuple[SigningKey, ...] = ()
    mac_bytes: int = 16
    required: bool = False

    def sign(self, text: str, *, source: str) -> str:
        """The signature by the first key that covers the source. Raises SignatureRefused when no key does."""
        for key in self.keys:
            if key.covers(source):
                return self._mac(key, text)
        raise SignatureRefused(f"there is no key to sign URLs of the source {source} with", reason="no_key")

    def check(self, mac: str | None, text: str) -> SigningKey | None:
        """The key that signed `text`; None for a text without a signature (`mac` is None). Raises SignatureRefused for
        a wrong signature, and for a missing one if signatures are required."""
        if mac is None:
            if self.required:
                raise SignatureRefused("this server serves only signed URLs", reason="missing")
            return None
        if not self.keys:
            raise SignatureRefused("the URL is signed, but this server has no key to check it with", reason="no_key")
        # Every key is tried, also after a match, so that the time taken reveals nothing.
        matching = [key for key in self.keys if hmac.compare_digest(self._mac(key, text), mac)]
        if not matching:
            raise SignatureRefused("the signature does not match this URL", reason="wrong")
        return matching[0]

    def _mac(self, key: SigningKey, text: str) -> str:
        # Compared as text, so that only one of the base64 texts that decode to the same bytes is valid.
        digest = hmac.digest(key.secret, text.encode(), "sha256")[: self.mac_bytes]
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


NO_KEYS = Keyring()


@dataclass(frozen=True, slots=True)
class SigningSettings:
    """Which URLs must be signed, and with what. Raises ValueError with every fault of the keys."""

    mode: Annotated[
        Literal["off", "remote-only", "required"],
        doc("which URLs must be signed: remote URLs or all; off: none, and no signature is valid"),
    ] = "remote-only"
    keys: Annotated[
        tuple[str, ...],
        doc("each 16 bytes or more in hex, with source= before a key for that source only; the first key signs"),
    ] = field(default=(), repr=False)
    signature_bytes: Annotated[int, Ge(16), Le(32), doc("length of signatures")] = 16

    def __post_init__(self) -> None:
        faults = list(_faults(self.keys))
        if self.mode == "required" and not self.keys:
            faults.append("mode is required, but there are no keys; `imgserver keys new` makes one")
        if faults:
            raise ValueError("; ".join(faults))

    def keyring(self) -> Keyring:
        """With mode off there are no keys, so no signature is valid."""
        keys = () if self.mode == "off" else tuple(map(read_key, self.keys))
        return Keyring(keys, self.signature_bytes, self.mode == "required")


def _faults(texts: tuple[str, ...]) -> list[str]:
    faults, seen = [], set()
    for number, text in enumerate(texts, 1):
        try:
            key = read_key(text)
        except ValueError as fault:
            faults.append(f"key {number} {fault}")
            continue
        if key.id in seen:
            faults.append(f"key {number} is a duplicate")
        seen.add(key.id)
    return faults
