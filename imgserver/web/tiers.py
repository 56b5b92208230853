"""The cache of a configuration: which tiers there are, and where the disk's stands."""

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir

from imgserver.caches.tiered import Tiered, assemble
from imgserver.errors import ServerFault
from imgserver.metrics import Metrics
from imgserver.settings import Settings


def make_cache(settings: Settings, metrics: Metrics) -> Tiered:
    """Not started. Raises ServerFault for a Redis URL that cannot be used."""
    disk = settings.disk
    if disk.path == Path():
        disk = replace(disk, path=_own_folder(settings.source.root.resolve()))
    try:
        return assemble(
            settings.cache,
            disk=disk if disk.limit_bytes else None,
            redis=settings.redis,
            settings=settings.tiers,
            observe=lambda operation, seconds: metrics.redis_command.labels(operation).observe(seconds),
            observe_value=metrics.cache_value.observe,
        )
    except ValueError as error:
        raise ServerFault(str(error)) from error


def _own_folder(root: Path) -> Path:
    """For the pictures of this root alone, where the user's caches are (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(base) / "imgserver" / sha256(str(root).encode()).hexdigest()[:16]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container's user may have none
        return Path(gettempdir())
