"""POST /api/admin/purge: makes the server forget pictures. Keys of scope purge open it; every use is audited.

The body is JSON with exactly one of these:
  {"url": "/img/w_400/cat.png"}    one picture, in all its negotiated formats
  {"source": "cat.png"}            all renditions of one original
  {"prefix": "team/"}              of all originals below a directory
  {"tag": "summer"}                of all originals with this tag
  {"group": "s57862b9718b7cf50"}   of one group, as Cache-Groups names it
  {"all": true}                    everything of this namespace; other keys in Redis survive
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import orjson
from aiohttp import web

from imgserver.cache.cache_tags import ALL, is_group, key_group, original_group, prefix_group, source_group, tag_group
from imgserver.cache.tiered import TieredCache
from imgserver.dialects.native import NativeDialect
from imgserver.errors import BadRequest, BodyTimeout
from imgserver.headers import negotiation
from imgserver.observability.audit import asked
from imgserver.plan.plan import SourceRef
from imgserver.service import ImageService
from imgserver.web.auth import Authenticator
from imgserver.web.routes import Routes
from imgserver.web.uploads.body import invite

# POST /api/admin/sweep: gives back the room of what is over or void anyway. The same key as for a purge; no body.

# Below the half minute that clients and proxies commonly wait; the sweep goes on behind.
SWEEP_SECONDS = 25.0


class SweepHandler:
    def __init__(self, cache: TieredCache, authenticator: Authenticator) -> None:
        self._cache = cache
        self._authenticator = authenticator

    async def __call__(self, request: web.Request) -> web.Response:
        key = self._authenticator.require(request, "purge", route="sweep")
        counts = await self._cache.sweep(seconds=SWEEP_SECONDS)
        removed = {"memory": counts.memory, "disk": counts.disk, "redis": counts.redis}
        self._authenticator.audit(
            "admin_action", reason="sweep", key=key, **asked(), **removed, incomplete=dict(counts.incomplete)
        )
        body = orjson.dumps({"removed": removed, "complete": counts.complete, "incomplete": counts.incomplete})
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


METHODS = ("POST",)
BODY_BYTES = 16_384
BODY_SECONDS = 15.0
# How long a purge waits for originals to be off the disk. Nobody is given them meanwhile.
ORIGINALS_SECONDS = 1.0
# Every choice that negotiation can make of one URL.
OFFERS: tuple[tuple[str, ...], ...] = ((), ("webp",), ("avif", "webp"))
WISHES = ("url", "source", "prefix", "tag", "group", "all")


class Originals(Protocol):
    """What is kept of far sources; see web/bootstrap/sources.py."""

    def forget(self, groups: Collection[str]) -> None: ...

    async def swept(self, *, seconds: float) -> bool: ...

    async def forget_one(self, ref: SourceRef) -> None: ...


def setup(
    routes: Routes, service: ImageService, dialect: NativeDialect, authenticator: Authenticator, originals: Originals
) -> None:
    """Pages that are there while some key opens them."""

    def is_there() -> bool:
        return authenticator.keys.grants("purge")

    purge, sweep = PurgeHandler(service, dialect, authenticator, originals), SweepHandler(service.cache, authenticator)
    routes.add_while(is_there, "/api/admin/purge", purge, "purge", METHODS)
    routes.add_while(is_there, "/api/admin/sweep", sweep, "sweep", METHODS)


class PurgeHandler:
    def __init__(
        self, service: ImageService, dialect: NativeDialect, authenticator: Authenticator, originals: Originals
    ) -> None:
        self._cache = service.cache
        self._pipeline_version = service.pipeline_version
        self._dialect = dialect
        self._authenticator = authenticator
        self._originals = originals

    async def __call__(self, request: web.Request) -> web.Response:
        key = self._authenticator.require(request, "purge", route="purge")
        wish = await _wish(request)
        groups = self._groups(wish)
        # First: a render that comes between must not find the original of before under the marks of after.
        swept = await self._forget_originals(wish, groups)
        counts = await self._cache.purge(groups)
        told = {"wish": next(iter(wish)), "key": key, "memory": counts.memory}
        self._authenticator.audit("admin_action", reason="purge", **told, **asked())
        facts = {"groups": groups, "removed": {"memory": counts.memory, "disk": counts.disk, "redis": counts.redis}}
        incomplete = counts.incomplete if swept else {**counts.incomplete, "originals": "running"}
        body = orjson.dumps(
            {**facts, "propagated": counts.propagated, "complete": not incomplete, "incomplete": incomplete}
        )
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def _forget_originals(self, wish: Mapping[str, Any], groups: tuple[str, ...]) -> bool:
        """Whoever purges one picture has seen that its original is another by now. False: they are still on the disk,
        where only a restart would find them."""
        match wish:
            case {"url": str(target)}:
                await self._originals.forget_one(self._dialect.parse(target).ref)
            case {"source": str(path)}:
                await self._originals.forget_one(self._dialect.ref(path.strip("/")))
            case _:
                self._originals.forget(groups)
                return await self._originals.swept(seconds=ORIGINALS_SECONDS)
        return True

    def _groups(self, wish: Mapping[str, Any]) -> tuple[str, ...]:
        match wish:
            case {"all": True}:
                return (ALL,)
            case {"source": str(path)} if path:
                return (source_group(self._dialect.ref(path.strip("/"))),)
            case {"prefix": str(prefix)}:
                return (self._prefix_group(prefix.strip("/")),)
            case {"tag": str(tag)}:
                return (self._tag_group(tag),)
            case {"group": str(group)} if is_group(group):
                return (group,)
            case {"url": str(target)}:
                original = original_group(self._dialect.parse(target).ref)
                return (*dict.fromkeys(self._key_groups(target)), original)
        raise BadRequest('purge: text for "url", "source", "prefix", "tag" or "group", or "all": true')

    def _tag_group(self, tag: str) -> str:
        """A misspelt tag would purge nothing, and say so with success."""
        if tag not in self._pipeline_version.tags.names:
            raise BadRequest(f"purge: there is no tag {tag}", value=tag)
        return tag_group(tag)

    def _key_groups(self, target: str) -> Iterator[str]:
        asked = self._dialect.parse(target).hints
        for hints in negotiation.variants(asked):
            request = self._dialect.parse(target, hints)
            for offers in OFFERS:
                yield key_group(self._pipeline_version.order(request, offers, save_data=hints.save_data).key)

    def _prefix_group(self, prefix: str) -> str:
        """Of a directory, or of a whole source when its name is all there is."""
        below = self._dialect.ref(f"{prefix}/_" if prefix else "_")
        return prefix_group(below.source, below.path.rpartition("/")[0])


async def _wish(request: web.Request) -> Mapping[str, Any]:
    """The body's only member. Raises BadRequest and BodyTimeout."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            await invite(request)
            body = await _body(request)
    except TimeoutError as error:
        raise BodyTimeout() from error
    try:
        wish = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest("purge: the body is not JSON") from error
    if not isinstance(wish, dict) or len(wish) != 1 or next(iter(wish)) not in WISHES:
        raise BadRequest(f"purge: one of {', '.join(WISHES)} in a JSON object", allowed=", ".join(WISHES))
    return wish


async def _body(request: web.Request) -> bytes:
    """To its end, in however many pieces it comes: half of it is another wish, or none."""
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > BODY_BYTES:
            raise BadRequest(f"purge: the body is over {BODY_BYTES} bytes")
    return bytes(body)
