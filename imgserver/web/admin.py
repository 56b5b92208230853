"""POST /api/admin/purge and /api/admin/sweep. Both need a key with the scope `purge`, and every use is audited."""

from typing import Any

import orjson
from aiohttp import web

from imgserver.cache.tiered import TieredCache
from imgserver.dialects import MountedDialects
from imgserver.errors import ImgserverError
from imgserver.observability.audit import request_context
from imgserver.service import ImageService
from imgserver.web.auth import Authenticator
from imgserver.web.bootstrap.sources import Sources
from imgserver.web.purge_request import PurgeRequest, PurgeResolver
from imgserver.web.request_body import read_small_body
from imgserver.web.routes import Routes

METHODS = ("POST",)
SCOPE = "purge"
BODY_BYTES = 16_384
BODY_SECONDS = 15.0
# How long a purge waits until the purged originals are deleted from the disk. No request gets them in the meantime.
ORIGINALS_SECONDS = 1.0
# Less than the 30 seconds that clients and proxies commonly wait. A longer sweep continues in the background.
SWEEP_SECONDS = 25.0


def setup(
    routes: Routes, service: ImageService, dialects: MountedDialects, authenticator: Authenticator, sources: Sources
) -> None:
    """The routes exist while a key with the scope `purge` is configured."""

    def is_enabled() -> bool:
        return authenticator.keys.grants(SCOPE)

    purge, sweep = PurgeHandler(service, dialects, authenticator, sources), SweepHandler(service.cache, authenticator)
    routes.add_while(is_enabled, "/api/admin/purge", purge, "purge", METHODS)
    routes.add_while(is_enabled, "/api/admin/sweep", sweep, "sweep", METHODS)


class PurgeHandler:
    """Invalidates renditions in all tiers and, for sources with an origin cache, the originals."""

    def __init__(
        self, service: ImageService, dialects: MountedDialects, authenticator: Authenticator, sources: Sources
    ) -> None:
        self._cache = service.cache
        self._identify = service.renderer.identify
        self._resolver = PurgeResolver(dialects, service.pipeline_version)
        self._authenticator = authenticator
        self._sources = sources

    async def __call__(self, request: web.Request) -> web.Response:
        key = self._authenticator.require(request, SCOPE, route="purge")
        body = await read_small_body(request, max_bytes=BODY_BYTES, seconds=BODY_SECONDS)
        purge = PurgeRequest.parse(body)
        groups = await self._groups(purge)
        # The originals first: a render that begins between the two steps would otherwise read the old original and be
        # stored as if it were newer than the purge.
        originals_deleted = await self._purge_originals(purge, groups)
        result = await self._cache.purge(groups)
        self._authenticator.audit(
            "admin_action",
            reason="purge",
            selector=purge.selector,
            key=key,
            memory=result.removed["memory"],
            **request_context(),
        )
        incomplete = result.incomplete if originals_deleted else {**result.incomplete, "originals": "running"}
        return _json(
            {
                "groups": groups,
                "removed": result.removed,
                "propagated": result.propagated,
                "complete": not incomplete,
                "incomplete": incomplete,
            }
        )

    async def _groups(self, purge: PurgeRequest) -> tuple[str, ...]:
        """The groups to purge, also by the name that stands for all names of an original or folder (symlinks)."""
        groups, named = self._resolver.groups(purge), self._resolver.named(purge)
        if named is None:
            return groups
        try:
            ref = await self._identify(named)
        except ImgserverError:  # an original that is gone has no other name
            return groups
        return groups if ref == named else (*dict.fromkeys((*groups, *self._resolver.groups_by(purge, ref))),)

    async def _purge_originals(self, purge: PurgeRequest, groups: tuple[str, ...]) -> bool:
        """Invalidates the originals that are cached on disk. Returns False when some of them are still on the disk,
        where only a restart would find them again."""
        original = self._resolver.original(purge)
        if original is not None:
            await self._sources.forget(original)
            return True
        self._sources.invalidate(groups)
        return await self._sources.wait_swept(seconds=ORIGINALS_SECONDS)


class SweepHandler:
    """Frees the space of expired and purged entries. The request has no body."""

    def __init__(self, cache: TieredCache, authenticator: Authenticator) -> None:
        self._cache = cache
        self._authenticator = authenticator

    async def __call__(self, request: web.Request) -> web.Response:
        key = self._authenticator.require(request, SCOPE, route="sweep")
        result = await self._cache.sweep(seconds=SWEEP_SECONDS)
        self._authenticator.audit(
            "admin_action",
            reason="sweep",
            key=key,
            **request_context(),
            **result.removed,
            incomplete=dict(result.incomplete),
        )
        return _json({"removed": result.removed, "complete": result.complete, "incomplete": result.incomplete})


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers={"Cache-Control": "no-store"})
