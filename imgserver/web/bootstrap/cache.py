"""The cache of a configuration: which tiers there are, and where the disk's stands."""

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir

from imgserver.cache.tiered import TieredCache, assemble
from imgserver.errors import ServerFault
from imgserver.observability.metrics import Metrics
from imgserver.runtime.background import OnTaskFailure, log_task_failure
from imgserver.settings.schema import Settings

# Where a server keeps its files when nobody says where: in the user's caches, in a folder of this configuration.


def own_folder(settings: Settings) -> Path:
    """For what this default source's server keeps alone (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(base) / "imgserver" / sha256(settings.source.identity.encode()).hexdigest()[:16]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container's user may have none
        return Path(gettempdir())


def make_cache(
    settings: Settings,
    metrics: Metrics,
    on_purge: Callable[[Collection[str]], None],
    on_task_failure: OnTaskFailure = log_task_failure,
) -> TieredCache:
    """Not started. `on_purge` is told the groups that another server has purged.

    Raises ServerFault for a Redis URL that cannot be used.
    """
    disk = settings.disk
    if disk.path == Path():
        disk = replace(disk, path=own_folder(settings))
    try:
        return assemble(
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
    # Finding a label's instrument takes longer than what it counts.
    series = cache(metrics.redis_command.labels)

    def observe(operation: str, seconds: float) -> None:
        series(operation).observe(seconds)

    return observe
