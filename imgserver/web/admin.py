"""POST /api/admin/purge: makes the server forget pictures. One key opens it; every use is audited.

The body is JSON with exactly one of these:
  {"url": "/img/w_400/cat.png"}    one picture, in all its negotiated formats
  {"source": "cat.png"}            all renditions of one original
  {"prefix": "team/"}              of all originals below a directory
  {"all": true}                    everything of this namespace; other keys in Redis survive
"""

import hmac
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from imgserver.audit import Audit
from imgserver.caches.groups import ALL, key_group, prefix_group, source_group
from imgserver.dialects.native import NativeDialect
from imgserver.errors import BadRequest, Forbidden
from imgserver.service import ImageService

METHODS = ("POST",)
BODY_BYTES = 16_384
# Every choice that negotiation can make of one URL.
OFFERS: tuple[tuple[str, ...], ...] = ((), ("webp",), ("avif", "webp"))
WISHES = ("url", "source", "prefix", "all")


class Purge:
    def __init__(self, service: ImageService, dialect: NativeDialect, *, key: str, audit: Audit) -> None:
        self._cache = service.cache
        self._edition = service.edition
        self._dialect = dialect
        self._key = key.encode()
        self._audit = audit

    async def __call__(self, request: web.Request) -> web.Response:
        self._require_key(request)
        wish = await _wish(request)
        groups = self._groups(wish)
        counts = await self._cache.purge(groups)
        self._audit("admin_action", reason="purge", wish=next(iter(wish)), memory=counts.memory)
        facts = {"groups": groups, "removed": {"memory": counts.memory, "disk": counts.disk, "redis": counts.redis}}
        body = orjson.dumps({**facts, "told": counts.told, "swept": counts.swept})
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    def _require_key(self, request: web.Request) -> None:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._key):
            return
        self._audit("auth_failed", reason="admin_key", remote=request.remote)
        raise Forbidden("This needs the admin key: Authorization: Bearer <key>")

    def _groups(self, wish: Mapping[str, Any]) -> tuple[str, ...]:
        match wish:
            case {"all": True}:
                return (ALL,)
            case {"source": str(path)} if path:
                return (source_group(self._dialect.ref(path.strip("/"))),)
            case {"prefix": str(prefix)}:
                return (self._prefix_group(prefix.strip("/")),)
            case {"url": str(target)}:
                request = self._dialect.parse(target)
                return tuple(dict.fromkeys(key_group(self._edition.order(request, offers).key) for offers in OFFERS))
        raise BadRequest('purge: text for "url", "source" or "prefix", or "all": true')

    def _prefix_group(self, prefix: str) -> str:
        """Of a directory, or of a whole source when its name is all there is."""
        below = self._dialect.ref(f"{prefix}/_" if prefix else "_")
        return prefix_group(below.source, below.path.rpartition("/")[0])


async def _wish(request: web.Request) -> Mapping[str, Any]:
    """The body's only member. Raises BadRequest."""
    body = await request.content.read(BODY_BYTES + 1)
    if len(body) > BODY_BYTES:
        raise BadRequest(f"purge: the body is over {BODY_BYTES} bytes")
    try:
        wish = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest("purge: the body is not JSON") from error
    if not isinstance(wish, dict) or len(wish) != 1 or next(iter(wish)) not in WISHES:
        raise BadRequest(f"purge: one of {', '.join(WISHES)} in a JSON object", allowed=", ".join(WISHES))
    return wish
