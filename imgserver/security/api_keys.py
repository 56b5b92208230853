"""API keys: `<id>.<32 random bytes>` for a client, a digest and scopes for the server.

During a rotation two keys of one id are valid: the new one, and the old one until it is removed. Random keys need no
slow hash. A key is compared with every digest, also after a match, so that the time taken reveals nothing.
"""

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Literal

from annotated_types import doc

from imgserver.errors import Forbidden, Unauthorized

SCOPES = ("upload", "purge", "metrics", "admin")
RANDOM_BYTES = 32
# The id of the key `admin.key` of the settings, which has no id of its own.
ADMIN_ID = "admin.key"

ID = re.compile(r"[a-z][a-z0-9-]{0,31}")
DIGEST = re.compile(r"[0-9a-f]{64}")
# The scheme in upper or lower case, then one key (RFC 6750, 2.1).
BEARER = re.compile(r"(?i:bearer) +(\S.{0,999})")


@dataclass(frozen=True, slots=True)
class ApiKeySettings:
    """One API key, by digest. Raises ValueError for an unknown scope or a malformed digest."""

    scopes: Annotated[str, doc("what the key opens, separated by spaces: upload, purge, metrics, or admin for all")] = (
        ""
    )
    digest: Annotated[str, doc("SHA-256 of the key, 64 hex digits")] = ""
    old_digest: Annotated[str, doc("SHA-256 of the previous key, which stays valid until this is removed")] = ""

    def __post_init__(self) -> None:
        if not (self.scopes or self.digest or self.old_digest):
            return
        unknown = set(self.scopes.split()) - set(SCOPES)
        if unknown or not self.scopes.split():
            raise ValueError(
                f'scopes: "{self.scopes}" is not allowed; some of {", ".join(SCOPES)}, separated by spaces'
            )
        for name in ("digest", "old_digest"):
            text = getattr(self, name)
            if (text or name == "digest") and not DIGEST.fullmatch(text):
                raise ValueError(f"{name}: 64 hex digits are needed; `imgserver api-keys new` prints them")

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.digest, self.old_digest)))

    def allows(self, scope: str) -> bool:
        return not {scope, "admin"}.isdisjoint(self.scopes.split())


def new_key(key_id: str) -> str:
    """A new random key. Raises ValueError for a malformed id."""
    if not ID.fullmatch(key_id):
        raise ValueError(f"{key_id}: an id is a small letter, then up to 31 small letters, digits and dashes")
    return f"{key_id}.{urlsafe_b64encode(secrets.token_bytes(RANDOM_BYTES)).rstrip(b'=').decode()}"


def digest_of(key: str) -> str:
    return sha256(key.encode()).hexdigest()


Reason = Literal["no_key", "malformed", "unknown_key", "missing_scope"]


class ApiKeys:
    """The keys of a server. `admin_key` has the scope admin and no id; "" means that there is none."""

    def __init__(self, rows: Mapping[str, ApiKeySettings], *, admin_key: str = "") -> None:
        self._rows = dict(rows)
        if admin_key:
            self._rows[ADMIN_ID] = ApiKeySettings("admin", digest_of(admin_key))

    def __repr__(self) -> str:
        keys = (f"{key_id} ({row.scopes})" for key_id, row in self._rows.items())
        return f"<ApiKeys {', '.join(keys) or 'none'}>"

    def grants(self, scope: str) -> bool:
        """Whether any key has this scope."""
        return any(row.allows(scope) for row in self._rows.values())

    def check(self, authorization: str | None, scope: str) -> str:
        """The id of the key in an Authorization field. Raises Unauthorized without a valid key, and Forbidden for a key
        without the scope; their fact `reason` is one of `Reason`."""
        if not authorization:
            raise _refusal("no_key")
        found = BEARER.fullmatch(authorization.strip())
        if found is None:
            raise _refusal("malformed")
        key_id = self._owner(found[1])
        if key_id is None:
            raise _refusal("unknown_key")
        if not self._rows[key_id].allows(scope):
            detail = f"This key may not do that; it needs the scope {scope}"
            raise Forbidden(detail, reason="missing_scope", key=key_id)
        return key_id

    def _owner(self, key: str) -> str | None:
        digest, owner = sha256(key.encode(errors="surrogateescape")).hexdigest(), None
        for key_id, row in self._rows.items():
            for known in row.digests:
                if hmac.compare_digest(digest, known):
                    owner = key_id
        return owner


def claimed_id(authorization: str) -> str:
    """The id that the key in an Authorization field begins with; "" for a key without a well-formed id."""
    found = BEARER.fullmatch(authorization.strip())
    key_id, dot, _ = found[1].partition(".") if found is not None else ("", "", "")
    return key_id if dot and ID.fullmatch(key_id) else ""


def _refusal(reason: Reason) -> Unauthorized:
    return Unauthorized("This needs an API key: Authorization: Bearer <key>", reason=reason)
