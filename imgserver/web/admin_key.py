"""The key of the admin API. Every use of it is to be audited; a refused one is here."""

import hmac

from aiohttp import web

from imgserver.audit import Audit
from imgserver.errors import Forbidden


class AdminKey:
    def __init__(self, key: str, audit: Audit) -> None:
        self._key = key.encode()
        self.audit = audit

    def require(self, request: web.Request, *, route: str) -> None:
        """Raises Forbidden."""
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._key):
            return
        self.audit("auth_failed", reason="admin_key", route=route, remote=request.remote)
        raise Forbidden("This needs the admin key: Authorization: Bearer <key>")
