"""Health and metrics: liveness and readiness probes, the status of the service and its details. No request waits in a
queue here."""

import asyncio
import dataclasses
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import orjson
from aiohttp import hdrs, web
from prometheus_client.aiohttp import make_aiohttp_handler
from structlog.typing import FilteringBoundLogger

from imgserver import __version__
from imgserver.observability.metrics import Metrics
from imgserver.security.redaction import redact_all
from imgserver.service import ImageService
from imgserver.web.auth import Authenticator
from imgserver.web.bootstrap.sources import Sources
from imgserver.web.local_client import is_local_client
from imgserver.web.middleware import Handler
from imgserver.web.routes import Routes

SCOPE = "metrics"
# How often the log looks for a change.
WATCH_SECONDS = 1.0


def setup(routes: Routes, health: "Health", authenticator: Authenticator, metrics: Metrics, *, public: bool) -> None:
    """Without `public`, only this machine and holders of a key with the scope `metrics` see metrics and details."""
    page: Handler = make_aiohttp_handler(metrics.registry)
    routes.add("/livez", health.livez, "livez")
    routes.add("/readyz", health.readyz, "readyz")
    routes.add("/api/health", health.service_health, "health")
    routes.add(
        "/api/image/health",
        health.image_health if public else _details_for_few(health, authenticator),
        "image_health",
    )
    routes.add("/metrics", page if public else _restricted(page, authenticator), "metrics")


class Health:
    """The status of the service. `draining` is set once, when the server stops."""

    def __init__(self, service: ImageService, sources: Sources) -> None:
        self._service = service
        self._sources = sources
        self._started = time.monotonic()
        # Read from files once: health must also be reported when the process cannot open another file.
        self._versions = versions()
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether a load balancer may send requests: workers are up, and the server is not draining."""
        return self._service.renderer.workers.ready and not self.draining

    def status(self) -> dict[str, Any]:
        """`status`: `ok`, `degraded` while a cache tier is suspended, `unavailable` or `draining`. `reasons`, unless it
        is `ok`: a text for each part that is not well."""
        if self.draining:
            return {"status": "draining", "reasons": ["server: stopping"]}
        if not self.ready:
            return {"status": "unavailable", "reasons": ["workers: none is ready"]}
        reasons = self.degradations()
        return {"status": "degraded", "reasons": reasons} if reasons else {"status": "ok"}

    def degradations(self) -> list[str]:
        """`redis: errors`, for each cache tier that is suspended."""
        tiers = self._service.cache.statistics().tiers
        return [f"{name}: {tier.degraded_reason or 'suspended'}" for name, tier in tiers.items() if tier.degraded]

    async def log_changes(self, logger: FilteringBoundLogger) -> None:
        """Logs when the server becomes degraded, for other reasons too, and when it recovers, until it is cancelled."""
        before: list[str] = []
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            reasons = self.degradations()
            if reasons and reasons != before:
                logger.warning("health.degraded", reasons=reasons)
            elif before and not reasons:
                logger.info("health.recovered")
            before = reasons

    async def livez(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n", headers={"Cache-Control": "no-store"})

    async def readyz(self, _: web.Request) -> web.Response:
        return _json(self.status(), ready=self.ready)

    async def service_health(self, _: web.Request) -> web.Response:
        body = {
            **self.status(),
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - self._started, 3),
        }
        return _json(body, ready=self.ready)

    async def image_health(self, _: web.Request) -> web.Response:
        return _json({**self.status(), **self._image_fields()}, ready=self.ready)

    def _image_fields(self) -> dict[str, Any]:
        service = self._service
        codecs = service.renderer.workers.codecs
        return {
            "workers": _fields(service.renderer.workers.statistics()),
            "queue": _fields(service.renderer.admission.statistics()),
            "flights": _fields(service.flights.statistics()),
            "cache": _fields(service.cache.statistics()),
            "origin_caches": {name: _fields(statistics) for name, statistics in self._sources.statistics().items()},
            "codecs": _fields(codecs),
            "versions": self._versions,
        }


def versions() -> dict[str, str]:
    """The versions of the server and of the libraries that handle a request."""
    names = ("aiohttp", "uvloop", "pyvips", "pyvips-binary")
    return {"imgserver": __version__, "python": platform.python_version(), **{n: metadata.version(n) for n in names}}


def _fields(statistics: Any) -> dict[str, Any]:
    """The fields of a statistics object, nested objects included."""
    return {row.name: _plain(getattr(statistics, row.name)) for row in dataclasses.fields(statistics)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    return {name: _plain(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _json(content: dict[str, Any], *, ready: bool) -> web.Response:
    body = orjson.dumps(redact_all(content), default=list, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if not ready:
        headers["Retry-After"] = "1"
    return web.Response(status=200 if ready else 503, body=body, headers=headers)


def _restricted(handler: Handler, authenticator: Authenticator) -> Handler:
    """For clients on this machine and for keys with the scope `metrics`. Any other client gets 404, as if the page did
    not exist."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not is_local_client(request):
            if hdrs.AUTHORIZATION not in request.headers:
                raise web.HTTPNotFound()
            authenticator.require(request, SCOPE, route="metrics")
        return await handler(request)

    return guarded


def _details_for_few(health: Health, authenticator: Authenticator) -> Handler:
    """For clients on this machine and for keys with the scope `metrics`. Any other client gets the status alone."""

    async def restricted(request: web.Request) -> web.StreamResponse:
        if not is_local_client(request):
            if hdrs.AUTHORIZATION not in request.headers:
                return await health.readyz(request)
            authenticator.require(request, SCOPE, route="image_health")
        return await health.image_health(request)

    return restricted
