"""What starts and stops with the server, as cleanup contexts of the application: they are closed in reverse order."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from aiohttp import web

from imgserver import __version__
from imgserver.observability.audit import AuditLog
from imgserver.observability.logs import LogWriter
from imgserver.observability.metrics import Metrics
from imgserver.runtime.background import BackgroundTasks, OnTaskFailure
from imgserver.service import ImageService
from imgserver.web.bootstrap.sources import Sources
from imgserver.web.reload import Reloader
from imgserver.web.uploads.temp_files import TempFiles

LAG_PROBE_SECONDS = 0.5

Context = Callable[[web.Application], AsyncIterator[None]]


def log_context(writer: LogWriter) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(writer.close)

    return context


def audit_context(audit: AuditLog) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        yield
        audit.close()

    return context


def background_context(
    reloader: Reloader,
    metrics: Metrics,
    watch_health: Callable[[], Awaitable[None]],
    on_task_failure: OnTaskFailure,
) -> Context:
    """The tasks of the server itself. Each component owns its own tasks."""

    async def context(_: web.Application) -> AsyncIterator[None]:
        tasks = BackgroundTasks(on_failure=on_task_failure)
        await tasks.start("reload", reloader.run_forever)
        await tasks.start("loop_lag_probe", partial(_probe_lag, metrics))
        await tasks.start("health_watch", watch_health)
        yield
        await tasks.close()

    return context


def sources_context(sources: Sources) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        await sources.start()
        yield
        await sources.close()

    return context


def temp_files_context(temp_files: TempFiles) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        yield
        await temp_files.close()

    return context


def cache_context(service: ImageService) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        await service.cache.start()
        yield
        await service.cache.close()

    return context


def workers_context(service: ImageService, metrics: Metrics, *, drain_seconds: float) -> Context:
    async def context(_: web.Application) -> AsyncIterator[None]:
        try:
            await service.renderer.workers.start()
            metrics.build.labels(__version__, service.renderer.workers.codecs.version or "unknown").set(1)
            yield
        finally:  # also when the server is stopped while they start
            service.renderer.admission.drain()
            await service.background.close()
            await service.flights.close()
            await service.renderer.workers.close(grace_seconds=drain_seconds)

    return context


async def _probe_lag(metrics: Metrics) -> None:
    while True:
        due = time.monotonic() + LAG_PROBE_SECONDS
        await asyncio.sleep(LAG_PROBE_SECONDS)
        metrics.loop_lag.set(max(0.0, time.monotonic() - due))
