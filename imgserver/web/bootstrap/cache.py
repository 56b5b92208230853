"""The cache of a configuration: its tiers, and the folder of the disk tier."""

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


def make_cache(
    settings: Settings,
    metrics: Metrics,
    on_purge: Callable[[Collection[str]], None],
    on_task_failure: OnTaskFailure = log_task_failure,
) -> TieredCache:
    """A cache that is not started yet. `on_purge` is called with the groups of each purge by another server.

    Raises ServerFault for a Redis URL that cannot be used.
    """
    disk = settings.disk
    if disk.path == Path():
        disk = replace(disk, path=default_cache_folder(settings))
    try:
        return build_cache(
            settings.cache,
            disk=disk if disk.limit_bytes else None,
            redis=settings.redis,
            settings=settings.tiers,
            observe=_command_observer(metrics),
            observe_value=metrics.cache_value.observe,
            on_purge=on_purge,
            on_task_failure=on_task_failure,
        )
    except ValueError as error:
        raise ServerFault(str(error)) from error


def default_cache_folder(settings: Settings) -> Path:
    """The default folder for files, below the user's cache folder (XDG base directories). Every default source has a
    folder, so that two servers with different sources do not share files."""
    base = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(base) / "imgserver" / sha256(settings.source.identity.encode()).hexdigest()[:16]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user in a container may have no home
        return Path(gettempdir())


def _command_observer(metrics: Metrics) -> Callable[[str, float], None]:
    # The series are cached: looking one up by its label takes longer than counting.
    series = cache(metrics.redis_command.labels)

    def observe(operation: str, seconds: float) -> None:
        series(operation).observe(seconds)

    return observe
