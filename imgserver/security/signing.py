"""Signed URLs: HMAC-SHA256 over the exact bytes that are parsed afterwards, by any of several keys.

The first key signs and every key verifies, so keys are changed without a gap: put the new one in front, wait until no
page and no cache holds a URL of the old one, remove that.
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
    """`sources` names those it opens; empty: all."""

    secret: bytes = field(repr=False)
    sources: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        """What it is called in logs and lists: tells keys apart and nothing else about them."""
        return sha256(b"imgserver key id\0" + self.secret).hexdigest()[:8]

    def covers(self, source: str) -> bool:
        return not self.sources or source in self.sources

    def serialize(self) -> str:
        """As the settings have it."""
        tied = "+".join(sorted(self.sources))
        return f"{tied}={self.secret.hex()}" if tied else self.secret.hex()


def read_key(text: str) -> SigningKey:
    """Hex digits, behind `shop=` or `shop+press=` where it is for those sources only.

    Raises ValueError, which never shows the digits.
    """
    names, equals, digits = text.strip().rpartition("=")
    sources = names.split("+") if equals else []
    if not all(map(_SOURCE.fullmatch, sources)):
        raise ValueError("what stands before = must be names of sources, joined by +")
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
    """The keys in order. `required`: what is not signed is refused."""

    keys: tuple[SigningKey, ...] = ()
    mac_bytes: int = 16
    required: bool = False

    def sign(self, text: str, *, source: str) -> str:
        """The signature by the first key that opens the source. Raises SignatureRefused when there is none."""
        for key in self.keys:
            if key.covers(source):
                return self._mac(key, text)
        raise SignatureRefused(f"there is no key to sign URLs of the source {source} with", reason="no_key")

    def check(self, mac: str | None, text: str) -> SigningKey | None:
        """The key that signed `text`; None for what is not signed. Raises SignatureRefused."""
        if mac is None:
            if self.required:
                raise SignatureRefused("this server answers signed URLs only", reason="missing")
            return None
        if not self.keys:
            raise SignatureRefused("the URL is signed, but this server has no key to check it with", reason="no_key")
        # Every key is tried, also behind the one that fits: the time taken tells nothing.
        fitting = [key for key in self.keys if hmac.compare_digest(self._mac(key, text), mac)]
        if not fitting:
            raise SignatureRefused("the signature does not fit this URL", reason="wrong")
        return fitting[0]

    def _mac(self, key: SigningKey, text: str) -> str:
        # Compared as text: of the spellings that decode to the same bytes, one is right.
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
        """Switched off, no signature is good, whatever keys there are."""
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
            faults.append(f"key {number} is there twice")
        seen.add(key.id)
    return faults
