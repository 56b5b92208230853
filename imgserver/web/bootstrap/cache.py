"""From settings to the cache, and where a server stores its files."""

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir

from imgserver.cache import build_cache
from imgserver.cache.tiered import TieredCache
from imgserver.errors import ServerFault
from imgserver.observability.metrics import Metrics
from imgserver.runtime.background import OnTaskFailure, log_task_failure
from imgserver.settings.schema import Settings


def own_folder(settings: Settings) -> Path:
    """The folder of a server with this default source, in the user's cache folder (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(base) / "imgserver" / sha256(settings.source.identity.encode()).hexdigest()[:16]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # the user of a container may have no home
        return Path(gettempdir())


def make_cache(
    settings: Settings,
    metrics: Metrics,
    on_purge: Callable[[Collection[str]], None],
    on_task_failure: OnTaskFailure = log_task_failure,
) -> TieredCache:
    """Not started. `on_purge(groups)` is called when another server has purged.

    Raises ServerFault for a Redis URL that cannot be used.
    """
    disk = settings.disk
    if disk.path == Path():
        disk = replace(disk, path=own_folder(settings))
    try:
        return build_cache(
            settings.cache,
            disk=disk if disk.limit_bytes else None,
            redis=settings.redis,
            settings=settings.tiers,
            observe=_observation(metrics),
            observe_value=metrics.cache_value.observe,
            on_purge=on_purge,
            on_task_failure=on_task_failure,
        )
    except ValueError as error:
        raise ServerFault(str(error)) from error


def _observation(metrics: Metrics) -> Callable[[str, float], None]:
    # Looking up the series of a label takes longer than observing it.
    series = cache(metrics.redis_command.labels)

    def observe(operation: str, seconds: float) -> None:
        series(operation).observe(seconds)

    return observe
