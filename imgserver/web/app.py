"""The composition root: the only place where settings become objects and objects meet."""

from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from imgserver.cache.cache_tags import Tags
from imgserver.cache.negative import NegativeCache
from imgserver.cache.redis.rate_limit import SharedTokenBuckets
from imgserver.engine import sandbox
from imgserver.observability import audit
from imgserver.observability.logs import LogWriter, make_logger, make_request_log
from imgserver.observability.metrics import IMAGE_ROUTE, Metrics
from imgserver.plan.plan import ImageRequest
from imgserver.rendering.admission import Admission
from imgserver.rendering.cost import CostModel
from imgserver.rendering.degradation import Degradation
from imgserver.rendering.renderer import FINGERPRINT_TTL_SECONDS, Rendering
from imgserver.rendering.upload_admission import Uploads
from imgserver.rendering.variants import Edition, Made
from imgserver.rendering.worker_pool import Workers
from imgserver.runtime.background import Behind
from imgserver.runtime.single_flight import SingleFlight
from imgserver.runtime.ttl_map import TtlMap
from imgserver.security.api_keys import ApiKeys
from imgserver.security.policy import Policy
from imgserver.security.rate_limit import ClientBuckets, Quota
from imgserver.security.remote_url import REMOTE
from imgserver.service import ImageService
from imgserver.settings.schema import Settings
from imgserver.web import admin, gallery, health, instrumentation, lifecycle, security_events
from imgserver.web.access import AccessPolicy
from imgserver.web.access_log import Ledger
from imgserver.web.auth import Authenticator
from imgserver.web.bootstrap.cache import make_cache
from imgserver.web.bootstrap.dialects import Dialects
from imgserver.web.bootstrap.sources import Sources, make_sources
from imgserver.web.connections import Guard
from imgserver.web.health import Health
from imgserver.web.images.handler import METHODS, ImageHandler
from imgserver.web.middleware import AtOnce, Boundary, Handler
from imgserver.web.reload import PolicyReload, Reloader, SettingsReload
from imgserver.web.routes import ANYTHING, Routes
from imgserver.web.uploads import handler
from imgserver.web.uploads.results import UploadAccounting
from imgserver.web.uploads.store import UploadStore

SERVICE = web.AppKey("service", ImageService)
HEALTH = web.AppKey("health", Health)
METRICS = web.AppKey("metrics", Metrics)
LOGGER: web.AppKey[FilteringBoundLogger] = web.AppKey("logger")
AUDIT: web.AppKey[audit.Audit] = web.AppKey("audit")
RELOADER = web.AppKey("reloader", Reloader)
POLICY_RELOAD = web.AppKey("policy_reload", PolicyReload)
SETTINGS_RELOAD = web.AppKey("settings_reload", SettingsReload)
AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
UPLOADS = web.AppKey("uploads", Uploads)

GUARD = web.AppKey("guard", Guard)
PICTURES: web.AppKey[Handler] = web.AppKey("pictures")
AT_ONCE: web.AppKey[AtOnce] = web.AppKey("at_once")

MOUNT = "/img/"


def make_app(
    settings: Settings, *, reread: Callable[[], Settings] | None = None, log_stream: BinaryIO | None = None
) -> web.Application:
    """The whole server as an application that owns its workers, its log and its metrics. `reread` reads the settings
    again, for SIGHUP.

    Raises ServerFault when the source folder is none. Call it in the main thread: workers die with their creator.
    """
    metrics = Metrics()
    logger, writer = make_logger(settings.log, log_stream)
    trail = _trail(metrics, logger)
    sources = make_sources(settings, trail, instrumentation.of_origins(metrics))
    service = _service(settings, sources, metrics, logger, trail)

    ledger = Ledger(make_request_log(settings.log, logger, writer))
    metrics.registry.register(ledger.tallies)
    app = web.Application()
    app[SERVICE], app[HEALTH], app[METRICS], app[LOGGER] = service, Health(service, sources.spools), metrics, logger
    app[AUDIT], app[RELOADER] = trail, Reloader(logger)
    app[GUARD] = Guard(settings.server)
    app[AUTHENTICATOR] = Authenticator(_api_keys(settings), trail)
    app[UPLOADS] = Uploads(settings.uploads)
    app[SETTINGS_RELOAD] = SettingsReload(
        settings, reread or (lambda: settings), metrics=metrics, audit=trail, logger=logger
    )
    app[SETTINGS_RELOAD].follow(lambda new: app[AUTHENTICATOR].adopt(_api_keys(new)))
    app[RELOADER].add("settings", app[SETTINGS_RELOAD].reload)
    boundary = Boundary(ledger, logger, security_events.of_errors(trail))
    _route(app, settings, sources, boundary)
    _rule(app, settings, boundary)
    app.cleanup_ctx.extend(
        (
            lifecycle.of_log(writer),
            lifecycle.of_trail(trail),
            lifecycle.of_reloader(app[RELOADER]),
            lifecycle.of_sources(sources),
            lifecycle.of_cache(service),
            lifecycle.of_workers(service, metrics, drain_seconds=settings.server.drain_seconds),
            lifecycle.of_lag_probe(metrics),
        )
    )
    _watch(app, sources, ledger, writer)
    return app


def _watch(app: web.Application, sources: Sources, ledger: Ledger, writer: LogWriter) -> None:
    """Has the state read at each scrape."""
    app[METRICS].watch(
        lambda: instrumentation.read(
            app[SERVICE],
            sources.spools,
            app[GUARD],
            ledger,
            app[UPLOADS],
            ready=app[HEALTH].ready,
            dropped_lines=writer.dropped_lines,
        )
    )


def _api_keys(settings: Settings) -> ApiKeys:
    return ApiKeys(settings.api_keys, admin_key=settings.admin.key)


def _trail(metrics: Metrics, logger: FilteringBoundLogger) -> audit.Trail:
    """Known label sets exist from the start: a series that is missing hides an alert."""
    for labels in audit.label_sets():
        metrics.security.labels(*labels)
    return audit.Trail(logger, lambda event, reason: metrics.security.labels(event, reason).inc())


def _rule(app: web.Application, settings: Settings, boundary: Boundary) -> None:
    """The policy at the gate and in the service, now and whenever it is read again. After every route is known."""
    service, link = app[SERVICE], app[SERVICE].cache.redis_client
    buckets = ClientBuckets(SharedTokenBuckets(link) if link is not None else None)

    def install(policy: Policy) -> None:
        boundary.install(AccessPolicy(policy, buckets))
        service.rendering.rules.pixels, service.rendering.rules.formats = policy.pixels, policy.formats
        service.negative_cache.clear()
        app[UPLOADS].limit(policy.uploads)

    app[POLICY_RELOAD] = PolicyReload(settings.security.policy, install=install, metrics=app[METRICS], audit=app[AUDIT])
    app[RELOADER].add("policy", app[POLICY_RELOAD].reload)
    warn = security_events.of(app[AUDIT], lambda: app[POLICY_RELOAD].current)
    warn(settings)
    app[SETTINGS_RELOAD].follow(warn)


def _service(
    settings: Settings, sources: Sources, metrics: Metrics, logger: FilteringBoundLogger, trail: audit.Audit
) -> ImageService:
    opener = partial(sandbox.open_engine, svg=settings.limits.svg)
    workers = Workers(settings.workers, opener=opener, on_event=instrumentation.of_workers(metrics, logger, trail))
    rendering = Rendering(
        sources=sources.by_name,
        fingerprints=TtlMap(FINGERPRINT_TTL_SECONDS),
        admission=Admission(settings.queue, slots=workers.count),
        workers=workers,
        costs=CostModel(),
        limits=settings.limits,
        quality=settings.quality,
        observe=instrumentation.of_renders(metrics),
        observe_failure=instrumentation.of_failures(metrics),
    )
    return ImageService(
        cache=make_cache(settings, metrics, sources.forget),
        flights=SingleFlight[Made](),
        rendering=rendering,
        behind=Behind(),
        edition=Edition.of(settings.quality, Tags.of(settings.tags)),
        quota=Quota(settings.quota),
        negative_cache=NegativeCache(),
        degradation=Degradation(),
        fresh_seconds=settings.cache.fresh_seconds,
    )


def _route(app: web.Application, settings: Settings, sources: Sources, boundary: Boundary) -> None:
    """What is served, feature by feature."""
    dialects = Dialects.of(settings)
    routes = Routes(app.router, boundary)
    pictures = _pictures(app, settings, sources, dialects)
    app[PICTURES] = routes.add(MOUNT + ANYTHING, pictures, IMAGE_ROUTE, METHODS)
    app[AT_ONCE] = boundary.at_once(pictures.at_once, IMAGE_ROUTE)
    health.setup(routes, app[HEALTH], app[AUTHENTICATOR], app[METRICS], public=settings.http.metrics_public)
    admin.setup(routes, app[SERVICE], dialects.owners, app[AUTHENTICATOR], sources)
    if settings.uploads.access != "off":
        handler.setup(
            app,
            routes,
            settings,
            app[SERVICE].rendering,
            authenticator=app[AUTHENTICATOR],
            uploads=app[UPLOADS],
            accounting=UploadAccounting(app[METRICS], app[AUDIT]),
            store=UploadStore.of(sources, settings.uploads.store, dialects.owners, app[SERVICE].written),
            settings_reload=app[SETTINGS_RELOAD],
        )
    if gallery.is_open(settings.server):
        gallery.setup(routes, settings.source, sources, dialects.public)
    routes.end()


def _pictures(app: web.Application, settings: Settings, sources: Sources, dialects: Dialects) -> ImageHandler:
    handler = ImageHandler(dialects.public, app[SERVICE], settings.http, admit=_admission_of(sources))

    def adopt(new: Settings) -> None:
        dialects.adopt(new)
        handler.wishes.forget()

    app[SETTINGS_RELOAD].follow(adopt)
    return handler


def _admission_of(sources: Sources) -> Callable[[ImageRequest], None]:
    """Of whole addresses: asked with every request, for a picture that a signed URL has put into the cache must not be
    answered to an unsigned one."""

    def admit(request: ImageRequest) -> None:
        if sources.remote is not None and request.ref.source == REMOTE:
            sources.remote.admit(request.ref.path, signed=request.signed)

    return admit
