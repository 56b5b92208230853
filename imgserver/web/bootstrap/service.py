"""The image service of a configuration, and the renderer below it."""

from functools import partial

from imgserver.cache.cache_tags import Tags
from imgserver.cache.negative import NegativeCache
from imgserver.cache.tiered import TieredCache
from imgserver.engine import sandbox
from imgserver.rendering.admission import Admission
from imgserver.rendering.cost import CostModel
from imgserver.rendering.degradation import Degradation
from imgserver.rendering.renderer import FINGERPRINT_TTL_SECONDS, Renderer
from imgserver.rendering.variants import PipelineVersion, RenderedResult
from imgserver.rendering.worker_pool import WorkerPool
from imgserver.runtime.background import BackgroundRefresh
from imgserver.runtime.single_flight import SingleFlight
from imgserver.runtime.ttl_map import TtlMap
from imgserver.security.rate_limit import Quota
from imgserver.service import ImageService
from imgserver.settings.plugins import plugin_version
from imgserver.settings.schema import Settings
from imgserver.web import instrumentation
from imgserver.web.bootstrap.observability import Observability
from imgserver.web.bootstrap.sources import Sources, source_identities


def make_renderer(settings: Settings, sources: Sources, observability: Observability) -> Renderer:
    """The worker pool is not started. Call this in the main thread: a worker dies with the thread that created it."""
    metrics = observability.metrics
    workers = WorkerPool(
        settings.workers,
        opener=partial(sandbox.open_engine, svg=settings.limits.svg, plugins=settings.server.plugins),
        on_event=instrumentation.worker_observer(metrics, observability.logger, observability.audit),
    )
    return Renderer(
        sources=sources.by_name,
        fingerprints=TtlMap(FINGERPRINT_TTL_SECONDS),
        admission=Admission(settings.queue, pool=workers),
        workers=workers,
        costs=CostModel(),
        limits=settings.limits,
        quality=settings.quality,
        observe=instrumentation.render_observer(metrics),
        observe_failure=instrumentation.render_failure_observer(metrics),
    )


def make_service(
    settings: Settings, cache: TieredCache, renderer: Renderer, observability: Observability
) -> ImageService:
    """The service above the cache and the renderer, neither of which has to be started yet."""
    return ImageService(
        cache=cache,
        flights=SingleFlight[RenderedResult](),
        renderer=renderer,
        background=BackgroundRefresh(on_failure=observability.on_task_failure),
        pipeline_version=PipelineVersion.of(
            settings.quality,
            plugins=map(plugin_version, settings.server.plugins),
            tags=Tags.of(settings.tags),
            identities=source_identities(settings),
        ),
        quota=Quota(settings.quota),
        negative_cache=NegativeCache(),
        degradation=Degradation(),
        fresh_seconds=settings.cache.ttl_seconds,
    )
