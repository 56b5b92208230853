"""The composition root: the only place where settings become objects and objects meet."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import BinaryIO

from aiohttp import hdrs, web
from prometheus_client.aiohttp import make_aiohttp_handler
from structlog.typing import FilteringBoundLogger

from imgserver import __version__, audit
from imgserver.addresses import REMOTE
from imgserver.admission import Admission
from imgserver.apikeys import ApiKeys
from imgserver.behind import Behind
from imgserver.buckets import ClientBuckets
from imgserver.caches.buckets import SharedBuckets
from imgserver.cost import CostModel
from imgserver.dialects.native import NativeDialect
from imgserver.engine import child
from imgserver.errors import ServerFault
from imgserver.flights import Flights
from imgserver.grammar import make_dialect, make_owners_dialect
from imgserver.logs import LogWriter, make_logger, make_request_log
from imgserver.metrics import IMAGE_ROUTE, Metrics
from imgserver.plan import ImageRequest
from imgserver.policy import Policy
from imgserver.quota import Quota
from imgserver.refusals import Refusals
from imgserver.rendition import Rendition
from imgserver.service import Edition, ImageService
from imgserver.settings import ServerSettings, Settings
from imgserver.sources import Listed, Writable
from imgserver.sources.looks import RecentLooks
from imgserver.tags import Tags
from imgserver.uploads import Uploads
from imgserver.web import admin, attacks, images, observation, state, uploads, weaknesses
from imgserver.web.admin import Purge
from imgserver.web.connections import Guard
from imgserver.web.door import Door
from imgserver.web.gallery import Gallery
from imgserver.web.gate import Gate, is_from_here
from imgserver.web.health import Health
from imgserver.web.images import ImageHandler
from imgserver.web.ledger import METHODS, Ledger
from imgserver.web.middleware import Boundary, Handler, not_found
from imgserver.web.policies import Policies
from imgserver.web.reload import Reloads
from imgserver.web.scratch import Scratch
from imgserver.web.sources import Sources, make_sources
from imgserver.web.sweeping import Sweep
from imgserver.web.tiers import make_cache
from imgserver.web.tolls import Tolls
from imgserver.web.uploads import Store, UploadHandler
from imgserver.web.wants import Grammar
from imgserver.workers import Workers

SERVICE = web.AppKey("service", ImageService)
HEALTH = web.AppKey("health", Health)
METRICS = web.AppKey("metrics", Metrics)
LOGGER: web.AppKey[FilteringBoundLogger] = web.AppKey("logger")
AUDIT: web.AppKey[audit.Audit] = web.AppKey("audit")
RELOADS = web.AppKey("reloads", Reloads)
POLICIES = web.AppKey("policies", Policies)
DOOR = web.AppKey("door", Door)
UPLOADS = web.AppKey("uploads", Uploads)

GUARD = web.AppKey("guard", Guard)
PICTURES: web.AppKey[Handler] = web.AppKey("pictures")

MOUNT = "/img/"
LAG_PROBE_SECONDS = 0.5


def make_app(settings: Settings, *, log_stream: BinaryIO | None = None) -> web.Application:
    """The whole server as an application that owns its workers, its log and its metrics.

    Raises ServerFault when the source folder is none. Call it in the main thread: workers die with their creator.
    """
    metrics = Metrics()
    logger, writer = make_logger(settings.log, log_stream)
    trail = _trail(metrics, logger)
    sources = make_sources(settings, trail, observation.of_origins(metrics))
    service = _service(settings, sources, metrics, logger, trail)
    health = Health(service, sources.spools)

    ledger = Ledger(make_request_log(settings.log, logger, writer))
    metrics.registry.register(ledger.tallies)
    app = web.Application()
    app[SERVICE], app[HEALTH], app[METRICS], app[LOGGER] = service, health, metrics, logger
    app[AUDIT], app[RELOADS] = trail, Reloads(logger)
    app[GUARD] = Guard(settings.server)
    app[DOOR] = Door(ApiKeys(settings.api_keys, admin_key=settings.admin.key), trail)
    app[UPLOADS] = Uploads(settings.uploads)
    boundary = Boundary(ledger, logger, attacks.of_errors(trail))
    _route(app, settings, sources, boundary)
    _rule(app, settings, boundary)
    app.cleanup_ctx.extend(
        (
            _log_kept(writer),
            _trail_kept(trail),
            _reloads_kept(app[RELOADS]),
            _sources_kept(sources),
            _cache_kept(service),
            _workers_kept(settings, service, metrics),
            _lag_probed(metrics),
        )
    )
    metrics.watch(
        lambda: state.read(
            service,
            sources.spools,
            app[GUARD],
            ledger,
            app[UPLOADS],
            ready=health.ready,
            dropped_lines=writer.dropped_lines,
        )
    )
    return app


def _trail(metrics: Metrics, logger: FilteringBoundLogger) -> audit.Trail:
    """Known label sets exist from the start: a series that is missing hides an alert."""
    for labels in audit.label_sets():
        metrics.security.labels(*labels)
    return audit.Trail(logger, lambda event, reason: metrics.security.labels(event, reason).inc())


def _rule(app: web.Application, settings: Settings, boundary: Boundary) -> None:
    """The policy at the gate and in the service, now and whenever it is read again. After every route is known."""
    service, link = app[SERVICE], app[SERVICE].cache.link
    buckets = ClientBuckets(SharedBuckets(link) if link is not None else None)

    def install(policy: Policy) -> None:
        boundary.install(Gate(policy, buckets))
        service.rules.pixels, service.rules.formats = policy.pixels, policy.formats
        service.refusals.clear()

    app[POLICIES] = Policies(settings.security.policy, install=install, metrics=app[METRICS], audit=app[AUDIT])
    app[RELOADS].add("policy", app[POLICIES].reload)
    for reason, sentence in weaknesses.find(settings, app[POLICIES].current):
        app[AUDIT]("config_weak", reason=reason, detail=sentence)


def _service(
    settings: Settings, sources: Sources, metrics: Metrics, logger: FilteringBoundLogger, trail: audit.Audit
) -> ImageService:
    opener = partial(child.open_engine, svg=settings.limits.svg)
    workers = Workers(settings.workers, opener=opener, on_event=observation.of_workers(metrics, logger, trail))
    return ImageService(
        sources=sources.by_name,
        cache=make_cache(settings, metrics, sources.forget),
        looks=RecentLooks(),
        flights=Flights[Rendition](),
        admission=Admission(settings.queue, slots=workers.count),
        workers=workers,
        costs=CostModel(),
        limits=settings.limits,
        quality=settings.quality,
        fresh_seconds=settings.cache.fresh_seconds,
        behind=Behind(),
        edition=Edition.of(settings.quality, Tags.of(settings.tags)),
        refusals=Refusals(),
        quota=Quota(settings.quota),
        observe=observation.of_renders(metrics),
        observe_failure=observation.of_failures(metrics),
    )


def _route(app: web.Application, settings: Settings, sources: Sources, boundary: Boundary) -> None:
    service, health = app[SERVICE], app[HEALTH]
    dialect = make_dialect(settings)
    metrics: Handler = make_aiohttp_handler(app[METRICS].registry)
    pictures = ImageHandler(dialect, service, settings.http, admit=_admission_of(sources))
    app[PICTURES] = boundary.around(pictures, IMAGE_ROUTE, images.METHODS)
    # With plain `.*` a path that holds an encoded line break would never reach the handler.
    app.router.add_route("*", MOUNT + "{tail:(?s:.*)}", app[PICTURES])
    routes: dict[str, tuple[str, Handler]] = {
        "/livez": ("livez", health.livez),
        "/readyz": ("readyz", health.readyz),
        "/api/health": ("health", health.service_health),
        "/api/image/health": (
            "image_health",
            health.image_health if settings.http.metrics_public else _detailed_here(health),
        ),
        "/metrics": ("metrics", metrics if settings.http.metrics_public else _from_here_only(metrics, app[DOOR])),
    }
    if app[DOOR].keys.grants("purge"):
        purge, sweep = (
            Purge(service, make_owners_dialect(settings), app[DOOR], sources),
            Sweep(service.cache, app[DOOR]),
        )
        app.router.add_route("*", "/api/admin/purge", boundary.around(purge, "purge", admin.METHODS))
        app.router.add_route("*", "/api/admin/sweep", boundary.around(sweep, "sweep", admin.METHODS))
    if settings.uploads.access != "off":
        _route_uploads(app, settings, sources, boundary)
    if is_gallery_open(settings.server):
        name, listed = settings.source.name, sources.by_name[settings.source.name]
        assert isinstance(listed, Listed)
        routes["/"] = ("gallery", Gallery(listed, dialect, source=name, title=settings.source.title))
    for path, (name, handler) in routes.items():
        app.router.add_route("*", path, boundary.around(handler, name))
    app.router.add_route("*", "/{tail:(?s:.*)}", boundary.around(not_found, "other", tuple(METHODS)))


def _route_uploads(app: web.Application, settings: Settings, sources: Sources, boundary: Boundary) -> None:
    """Raises ServerFault for a folder that is none, and for a source that cannot be written to."""
    origin = settings.uploads.allow_origin
    scratch = Scratch(settings.uploads.path, app[UPLOADS])
    upload = UploadHandler(
        app[SERVICE],
        Grammar(settings.native, settings.presets),
        settings.uploads,
        door=app[DOOR],
        uploads=app[UPLOADS],
        scratch=scratch,
        tolls=Tolls(app[METRICS], app[AUDIT]),
        store=_store(sources, settings.uploads.store, make_owners_dialect(settings)),
        local=settings.server.is_local,
    )
    handler = boundary.around(upload, uploads.ROUTE, uploads.METHODS if origin else (hdrs.METH_POST,))
    handler = uploads.allowing(origin, handler) if origin else handler
    if settings.uploads.access == "open" and not settings.server.is_local:
        app[AUDIT]("config_weak", reason="uploads_open")
    app.router.add_route("*", uploads.PATH, handler, expect_handler=uploads.expect_nothing)
    app.cleanup_ctx.append(_scratch_kept(scratch))


def _store(sources: Sources, name: str, dialect: NativeDialect) -> Store | None:
    if not name:
        return None
    source = sources.by_name.get(name)
    if not isinstance(source, Writable) or name not in sources.writable:
        what = "is not writable" if source else f"is no source; there are {', '.join(sources.by_name)}"
        raise ServerFault(f"uploads.store: {name} {what}")
    return Store(source, name, dialect)


def _admission_of(sources: Sources) -> Callable[[ImageRequest], None]:
    """Of whole addresses: asked with every request, for a picture that a signed URL has put into the cache must not be
    answered to an unsigned one."""

    def admit(request: ImageRequest) -> None:
        if sources.remote is not None and request.ref.source == REMOTE:
            sources.remote.admit(request.ref.path, signed=request.signed)

    return admit


def _from_here_only(handler: Handler, door: Door) -> Handler:
    """For a scraper on the same machine, and for keys of scope metrics; to others there is no such page."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not is_from_here(request):
            if hdrs.AUTHORIZATION not in request.headers:
                raise web.HTTPNotFound()
            door.require(request, "metrics", route="metrics")
        return await handler(request)

    return guarded


def _detailed_here(health: Health) -> Handler:
    """Strangers hear how it is, and no details."""

    async def told(request: web.Request) -> web.StreamResponse:
        return await (health.image_health if is_from_here(request) else health.readyz)(request)

    return told


def is_gallery_open(settings: ServerSettings) -> bool:
    """A list of the folder is for its owner: unless asked for, it is there only while strangers cannot reach it."""
    if settings.gallery == "auto":
        return settings.is_local
    return settings.gallery == "on"


# Contexts are closed in the reverse order: workers first, the log last.
Context = Callable[[web.Application], AsyncIterator[None]]


def _log_kept(writer: LogWriter) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(writer.close)

    return context


def _trail_kept(trail: audit.Trail) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        yield
        trail.close()

    return context


def _reloads_kept(reloads: Reloads) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        work = asyncio.create_task(reloads.work())
        yield
        work.cancel()
        await asyncio.wait([work])

    return context


def _sources_kept(sources: Sources) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        await sources.start()
        yield
        await sources.close()

    return context


def _scratch_kept(scratch: Scratch) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        yield
        scratch.close()

    return context


def _cache_kept(service: ImageService) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        await service.cache.start()
        yield
        await service.cache.close()

    return context


def _workers_kept(settings: Settings, service: ImageService, metrics: Metrics) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        await service.workers.start()
        metrics.build.labels(__version__, service.workers.codecs.version or "unknown").set(1)
        yield
        service.admission.drain()
        await service.behind.close()
        await service.flights.close()
        await service.workers.close(grace_seconds=settings.server.drain_seconds)

    return context


def _lag_probed(metrics: Metrics) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        probe = asyncio.create_task(_probe_lag(metrics))
        yield
        probe.cancel()
        await asyncio.wait([probe])

    return context


async def _probe_lag(metrics: Metrics) -> None:
    while True:
        due = time.monotonic() + LAG_PROBE_SECONDS
        await asyncio.sleep(LAG_PROBE_SECONDS)
        metrics.loop_lag.set(max(0.0, time.monotonic() - due))
