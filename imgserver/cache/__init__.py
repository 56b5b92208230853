"""The cache of finished renditions.

A cache may lose any record at any time and must never return a wrong rendition: whatever is odd about a record makes it
a miss. Keys come from `plan.canonical.key`.

`tiered.py` puts the memory tier (`memory.py`) in front of the tiers in `TIERS`: disk (`disk.py`) and Redis (`redis/`).
They store records (`record.py`), which `write_behind.py` writes after the response. A purge changes the generations
(`invalidation.py`) of cache groups (`cache_tags.py`), which invalidates every older record; `sweeper.py` then frees
their space. `negative.py` caches refusals.

To add a tier, write a class with the methods of `Tier` in one file, run `imgserver.testing.TierContract` on it, and add
a row to `TIERS`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from imgserver.cache.disk import DiskSettings, DiskTier
from imgserver.cache.invalidation import Generations
from imgserver.cache.memory import MemorySettings, MemoryTier
from imgserver.cache.redis.client import RedisClient, RedisSettings
from imgserver.cache.redis.invalidation import SharedInvalidation
from imgserver.cache.redis.tier import RedisTier
from imgserver.cache.tier import IsKept, SweepResult, Tier, TierStatistics
from imgserver.cache.tiered import TieredCache, TieredSettings
from imgserver.runtime.background import OnTaskFailure, log_task_failure

__all__ = ["TIERS", "IsKept", "SweepResult", "Tier", "TierContext", "TierFactory", "TierStatistics", "build_cache"]

GENERATIONS_FILE = "generations.json"


@dataclass(frozen=True, slots=True)
class TierContext:
    """What a factory in `TIERS` may build its tier from. None: not configured."""

    disk: DiskSettings | None
    redis_client: RedisClient | None
    generations: Generations
    on_task_failure: OnTaskFailure


# Returns the tier, not started, or None when the configuration switches it off.
TierFactory = Callable[[TierContext], Tier | None]


def _disk(context: TierContext) -> Tier | None:
    return DiskTier(context.disk, on_task_failure=context.on_task_failure) if context.disk is not None else None


def _redis(context: TierContext) -> Tier | None:
    return RedisTier(context.redis_client, context.generations) if context.redis_client is not None else None


# The tiers below memory by name. Lookups go through them in this order, after the one that `tiers.first` names.
TIERS: dict[str, TierFactory] = {"disk": _disk, "redis": _redis}


def build_cache(
    memory: MemorySettings,
    *,
    disk: DiskSettings | None = None,
    redis: RedisSettings | None = None,
    settings: TieredSettings | None = None,
    observe: Callable[[str, float], None] = lambda *_: None,
    observe_value: Callable[[int], None] = lambda _: None,
    on_purge: Callable[[Collection[str]], None] = lambda _: None,
    on_task_failure: OnTaskFailure = log_task_failure,
) -> TieredCache:
    """The cache of a configuration, with every tier of `TIERS`, not started.

    `observe(operation, seconds)` is called for each Redis command that was answered, `observe_value(bytes)` for each
    body that is put, `on_purge(groups)` for each purge of another server, `on_task_failure` for each exception of a
    background task. Raises ValueError for a `redis.url` or a namespace that cannot be used.
    """
    settings = settings or TieredSettings()
    client = (
        RedisClient(redis, observe=observe, on_task_failure=on_task_failure)
        if redis is not None and redis.url
        else None
    )
    shared = SharedInvalidation(client) if client is not None else None
    path = disk.path / GENERATIONS_FILE if disk is not None else None
    generations = Generations(shared=shared, path=path, on_purge=on_purge)
    context = TierContext(disk, client, generations, on_task_failure)
    names = sorted(TIERS, key=lambda name: name != settings.first)
    tiers = {name: tier for name in names if (tier := TIERS[name](context)) is not None}
    return TieredCache(
        MemoryTier(memory),
        tiers,
        generations=generations,
        redis_client=client,
        shared=shared,
        settings=settings,
        observe_value=observe_value,
        on_task_failure=on_task_failure,
    )
