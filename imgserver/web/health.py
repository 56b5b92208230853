"""Health for machines and people: alive, ready, and how the image side is doing. Nothing here ever queues."""

import dataclasses
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import orjson
from aiohttp import hdrs, web
from prometheus_client.aiohttp import make_aiohttp_handler

from imgserver import __version__
from imgserver.observability.metrics import Metrics
from imgserver.service import ImageService
from imgserver.sources.origin_cache.origin_cache import OriginCache
from imgserver.web.access import is_from_here
from imgserver.web.auth import Authenticator
from imgserver.web.middleware import Handler
from imgserver.web.routes import Routes


def setup(routes: Routes, health: "Health", authenticator: Authenticator, metrics: Metrics, *, public: bool) -> None:
    """Without `public`, metrics and details are for this machine, and metrics for keys."""
    page: Handler = make_aiohttp_handler(metrics.registry)
    routes.add("/livez", health.livez, "livez")
    routes.add("/readyz", health.readyz, "readyz")
    routes.add("/api/health", health.service_health, "health")
    routes.add("/api/image/health", health.image_health if public else _detailed_here(health), "image_health")
    routes.add("/metrics", page if public else _from_here_only(page, authenticator), "metrics")


class Health:
    """`ready` is what load balancers ask: workers up, and not draining."""

    def __init__(self, service: ImageService, spools: Mapping[str, OriginCache]) -> None:
        self._service = service
        self._spools = spools
        self._begun = time.monotonic()
        # They lie in files; health is to be told also when no file can be opened any more.
        self._versions = versions()
        self.draining = False

    @property
    def ready(self) -> bool:
        return self._service.renderer.workers.ready and not self.draining

    def status(self) -> str:
        if self.draining:
            return "draining"
        if not self.ready:
            return "unavailable"
        cache = self._service.cache.statistics()
        without_redis = cache.link is not None and not cache.link.connected
        without_disk = cache.disk is not None and cache.disk.writes_paused
        return "degraded" if without_redis or without_disk else "ok"

    async def livez(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n", headers={"Cache-Control": "no-store"})

    async def readyz(self, _: web.Request) -> web.Response:
        return _json({"status": self.status()}, ready=self.ready)

    async def service_health(self, _: web.Request) -> web.Response:
        facts = {
            "status": self.status(),
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - self._begun, 3),
        }
        return _json(facts, ready=self.ready)

    async def image_health(self, _: web.Request) -> web.Response:
        return _json({"status": self.status(), **self._image_facts()}, ready=self.ready)

    def _image_facts(self) -> dict[str, Any]:
        service = self._service
        codecs = service.renderer.workers.codecs
        return {
            "workers": _facts(service.renderer.workers.statistics()),
            "queue": _facts(service.renderer.admission.statistics()),
            "flights": _facts(service.flights.statistics()),
            "cache": _facts(service.cache.statistics()),
            "spools": {name: _facts(spool.statistics()) for name, spool in self._spools.items()},
            "codecs": _facts(codecs),
            "versions": self._versions,
        }


def versions() -> dict[str, str]:
    """Of the libraries that decide how a request is answered."""
    names = ("aiohttp", "uvloop", "pyvips", "pyvips-binary")
    return {"imgserver": __version__, "python": platform.python_version(), **{n: metadata.version(n) for n in names}}


def _facts(statistics: Any) -> dict[str, Any]:
    """The fields of a frozen statistics value; mappings in it are views, which are copied."""
    facts = {row.name: getattr(statistics, row.name) for row in dataclasses.fields(statistics)}
    return {name: _plain(fact) for name, fact in facts.items()}


def _plain(fact: Any) -> Any:
    if dataclasses.is_dataclass(fact) and not isinstance(fact, type):
        return _facts(fact)
    return dict(fact) if isinstance(fact, Mapping) else fact


def _json(facts: dict[str, Any], *, ready: bool) -> web.Response:
    body = orjson.dumps(facts, default=list, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if not ready:
        headers["Retry-After"] = "1"
    return web.Response(status=200 if ready else 503, body=body, headers=headers)


def _from_here_only(handler: Handler, authenticator: Authenticator) -> Handler:
    """For a scraper on the same machine, and for keys of scope metrics; to others there is no such page."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not is_from_here(request):
            if hdrs.AUTHORIZATION not in request.headers:
                raise web.HTTPNotFound()
            authenticator.require(request, "metrics", route="metrics")
        return await handler(request)

    return guarded


def _detailed_here(health: Health) -> Handler:
    """Strangers hear how it is, and no details."""

    async def told(request: web.Request) -> web.StreamResponse:
        return await (health.image_health if is_from_here(request) else health.readyz)(request)

    return told
