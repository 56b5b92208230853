"""The key of the admin API. Every use is an event in the log, a refused one too."""

import hmac

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from imgserver.errors import Forbidden


class AdminKey:
    def __init__(self, key: str, logger: FilteringBoundLogger) -> None:
        self._key = key.encode()
        self._logger = logger

    def require(self, request: web.Request, *, route: str) -> None:
        """Raises Forbidden."""
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._key):
            return
        self._logger.warning("security.auth_failed", route=route, remote=request.remote)
        raise Forbidden("This needs the admin key: Authorization: Bearer <key>")

    def audit(self, action: str, **facts: object) -> None:
        self._logger.info("security.admin_action", action=action, **facts)
