"""POST /api/admin/sweep: gives back the room of what is over or void anyway. The same key as for a purge; no body."""

import orjson
from aiohttp import web

from imgserver.cache.tiered import Tiered
from imgserver.observability.audit import asked
from imgserver.web.door import Door

# Below the half minute that clients and proxies commonly wait; the sweep goes on behind.
SWEEP_SECONDS = 25.0


class Sweep:
    def __init__(self, cache: Tiered, door: Door) -> None:
        self._cache = cache
        self._door = door

    async def __call__(self, request: web.Request) -> web.Response:
        key = self._door.require(request, "purge", route="sweep")
        counts = await self._cache.sweep(seconds=SWEEP_SECONDS)
        removed = {"memory": counts.memory, "disk": counts.disk, "redis": counts.redis}
        self._door.audit("admin_action", reason="sweep", key=key, **asked(), **removed, left=dict(counts.left))
        body = orjson.dumps({"removed": removed, "swept": counts.swept, "left": counts.left})
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})
