"""The composition root: the only place where settings become objects and objects meet."""

from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from imgserver.observability.metrics import IMAGE_ROUTE
from imgserver.plan.plan import ImageRequest
from imgserver.rendering.upload_admission import UploadAdmission
from imgserver.security.api_keys import ApiKeys
from imgserver.security.remote_url import REMOTE
from imgserver.service import ImageService
from imgserver.settings.schema import Settings
from imgserver.web import admin, gallery, health, instrumentation, lifecycle, security_events
from imgserver.web.auth import Authenticator
from imgserver.web.bootstrap.cache import make_cache
from imgserver.web.bootstrap.dialects import Dialects
from imgserver.web.bootstrap.observability import Observability, make_observability
from imgserver.web.bootstrap.reload import make_reloader, make_settings_reload
from imgserver.web.bootstrap.service import make_renderer, make_service
from imgserver.web.bootstrap.sources import Sources, make_sources
from imgserver.web.cors import CrossOriginReads
from imgserver.web.fast_path import FastPath
from imgserver.web.health import Health
from imgserver.web.images.handler import METHODS, ImageHandler
from imgserver.web.middleware import Boundary, Handler
from imgserver.web.open_connections import OpenConnections
from imgserver.web.reload import Reloader
from imgserver.web.reload_settings import SettingsReload
from imgserver.web.routes import ANYTHING, Routes
from imgserver.web.state_metrics import read_state
from imgserver.web.uploads import handler as uploads_handler
from imgserver.web.uploads.accounting import UploadAccounting
from imgserver.web.uploads.store import UploadStore

SERVICE = web.AppKey("service", ImageService)
HEALTH = web.AppKey("health", Health)
LOGGER: web.AppKey[FilteringBoundLogger] = web.AppKey("logger")
RELOADER = web.AppKey("reloader", Reloader)

BOUNDARY = web.AppKey("boundary", Boundary)
CONNECTIONS = web.AppKey("connections", OpenConnections)
IMAGES: web.AppKey[Handler] = web.AppKey("images")
FAST_PATH = web.AppKey("fast_path", FastPath)
MOUNTS: web.AppKey[tuple[str, ...]] = web.AppKey("mounts")


def make_app(
    settings: Settings, *, read_settings: Callable[[], Settings] | None = None, log_stream: BinaryIO | None = None
) -> web.Application:
    """The whole server as an application, which starts and stops its workers, its cache and its log.

    `read_settings` reads the settings again, for SIGHUP. Call this in the main thread: a worker dies with the thread
    that created it. Raises ServerFault for a configuration that cannot be served, such as a source folder that does
    not exist, and BadPolicy for a faulty policy file.
    """
    observability = make_observability(settings.log, log_stream)
    metrics, audit = observability.metrics, observability.audit
    sources = make_sources(settings, audit, instrumentation.origin_observer(metrics), observability.on_task_failure)
    cache = make_cache(settings, metrics, sources.invalidate, observability.on_task_failure)
    renderer = make_renderer(settings, sources, observability)
    service = make_service(settings, cache, renderer, observability)

    app = web.Application()
    app[SERVICE], app[LOGGER] = service, observability.logger
    app[HEALTH] = Health(service, sources)
    app[CONNECTIONS] = OpenConnections(settings.server, warn=instrumentation.connection_observer(observability.logger))
    uploads = UploadAdmission(settings.uploads)
    settings_reload = make_settings_reload(settings, read_settings, observability)

    observe_error = security_events.error_observer(audit)
    boundary = Boundary(observability.access_log, observability.logger, observe_error, CrossOriginReads(settings))
    app[BOUNDARY] = boundary
    _add_routes(app, settings, boundary, sources, uploads, settings_reload, observability)
    app[RELOADER] = make_reloader(settings_reload, boundary, service, uploads, observability)

    metrics.watch(
        partial(
            read_state,
            service=service,
            health=app[HEALTH],
            sources=sources,
            uploads=uploads,
            connections=app[CONNECTIONS],
            access_log=observability.access_log,
            log_writer=observability.log_writer,
        )
    )
    app.cleanup_ctx.extend(
        (
            lifecycle.log_context(observability.log_writer),
            lifecycle.audit_context(audit),
            lifecycle.background_context(
                app[RELOADER],
                metrics,
                partial(app[HEALTH].log_changes, observability.logger),
                observability.on_task_failure,
            ),
            lifecycle.sources_context(sources),
            lifecycle.cache_context(service),
            lifecycle.workers_context(service, metrics, drain_seconds=settings.server.drain_seconds),
        )
    )
    return app


def _add_routes(
    app: web.Application,
    settings: Settings,
    boundary: Boundary,
    sources: Sources,
    uploads: UploadAdmission,
    settings_reload: SettingsReload,
    observability: Observability,
) -> None:
    """Adds the handlers of all features. Each follows the settings that may change while the server runs."""
    service, routes = app[SERVICE], Routes(app.router, boundary)
    dialects = Dialects.of(settings)
    settings_reload.follow(dialects.adopt)
    authenticator = Authenticator(_api_keys(settings), observability.audit)
    settings_reload.follow(lambda new: authenticator.adopt(_api_keys(new)))

    images = ImageHandler(dialects.public, service, settings.http, admit=_remote_admission(sources))
    settings_reload.follow(lambda _: images.request_cache.clear())
    app[IMAGES], app[MOUNTS] = routes.wrap(images, IMAGE_ROUTE, METHODS), dialects.public.mounts
    for mount in app[MOUNTS]:
        routes.add_wrapped(mount + ANYTHING, app[IMAGES])
    app[FAST_PATH] = FastPath(images, boundary)

    health.setup(routes, app[HEALTH], authenticator, observability.metrics, public=settings.http.metrics_public)
    admin.setup(routes, service, dialects.owners, authenticator, sources)
    if settings.uploads.access != "off":
        uploads_handler.setup(
            app,
            routes,
            settings,
            service.renderer,
            authenticator=authenticator,
            admission=uploads,
            accounting=UploadAccounting(observability.metrics, observability.audit),
            store=UploadStore.of(sources, settings.uploads.store, dialects.owners.native, service.forget_original),
            settings_reload=settings_reload,
        )
    if gallery.is_enabled(settings.server):
        gallery.setup(routes, settings, sources, dialects.public.native)
    routes.add_fallback()


def _api_keys(settings: Settings) -> ApiKeys:
    return ApiKeys(settings.api_keys, admin_key=settings.admin.key)


def _remote_admission(sources: Sources) -> Callable[[ImageRequest], None]:
    """Checks remote URLs for every request, hits included: a signed request may have put the rendition into the cache,
    and an unsigned request must not get it."""

    def admit(request: ImageRequest) -> None:
        if sources.remote is not None and request.ref.source == REMOTE:
            sources.remote.admit(request.ref.path, signed=request.signed)

    return admit
