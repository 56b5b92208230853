"""From the components' frozen statistics to the state series of `metrics.STATE`."""

from collections.abc import Mapping
from typing import Any

from imgserver.cache import disk, record
from imgserver.cache.disk import DiskStatistics
from imgserver.cache.memory import MemoryStatistics
from imgserver.cache.redis import tier
from imgserver.cache.redis.client import LinkStatistics
from imgserver.cache.redis.tier import RedisStatistics
from imgserver.observability.metrics import State
from imgserver.rendering.admission import SHED_REASONS
from imgserver.rendering.upload_admission import Uploads, UploadStatistics
from imgserver.service import ImageService
from imgserver.sources.origin_cache.origin_cache import Spool
from imgserver.web.connections import Guard
from imgserver.web.ledger import Ledger

# By tier. Known label sets exist from the start: a series that is missing hides an alert.
CORRUPTIONS = {"disk": record.REASONS, "redis": tier.CORRUPTIONS}
DROPS = {"disk": disk.DROPS, "redis": tier.DROPS}


def read(
    service: ImageService,
    spools: Mapping[str, Spool],
    guard: Guard,
    ledger: Ledger,
    uploads: Uploads,
    *,
    ready: bool,
    dropped_lines: int,
) -> State:
    return {
        "ready": float(ready),
        "http_connections": guard.open,
        "http_requests_in_progress": ledger.in_progress,
        "client_disconnects_total": ledger.disconnects,
        "http_malformed_total": guard.malformed,
        "http_overdue_total": guard.overdue,
        "log_lines_dropped_total": dropped_lines,
        "refusals_remembered": service.refusals.statistics().remembered,
        "refusals_repeated_total": service.refusals.statistics().repeated,
        "degraded_total": {rung.name.lower(): count for rung, count in service.degradation.counts.items()},
        "coalesced_total": service.flights.statistics().coalesced,
        **_queue(service, uploads.statistics()),
        **_workers(service),
        **_cache(service),
        **_spools(spools),
    }


def _queue(service: ImageService, uploads: UploadStatistics) -> dict[str, Any]:
    queue = service.rendering.admission.statistics()
    return {
        "queue_jobs": {
            ("render", "ready"): queue.waiting,
            ("render", "running"): queue.running,
            ("upload", "ready"): uploads.waiting,
            ("upload", "running"): uploads.running,
        },
        "queue_limit": {"render": queue.limit, "upload": uploads.limit},
        "queue_oldest_job_age_seconds": {"render": queue.oldest_wait_seconds, "upload": uploads.oldest_wait_seconds},
        "upload_space_bytes": uploads.space_bytes,
        "waiting_tickets": queue.waiting_by_class,
        "predicted_wait_seconds": queue.predicted_wait_seconds,
        "decoded_bytes_in_flight": queue.decoded_bytes_in_flight,
        "shed_total": {**dict.fromkeys(SHED_REASONS, 0), **queue.shed},
    }


def _workers(service: ImageService) -> dict[str, Any]:
    workers = service.rendering.workers.statistics()
    return {
        "workers": {
            "busy": workers.busy,
            "idle": workers.idle,
            "starting": workers.starting,
            "spare": workers.spare,
        },
        "worker_busy_seconds_total": workers.busy_seconds,
        "worker_restarts_total": workers.restarts,
        "worker_rss_bytes": {str(number): size for number, size in workers.rss_bytes.items()},
        "quarantined_keys": workers.quarantined,
    }


def _cache(service: ImageService) -> dict[str, Any]:
    cache = service.cache.statistics()
    bounded: dict[str, MemoryStatistics | DiskStatistics] = {"memory": cache.memory}
    slow: dict[str, DiskStatistics | RedisStatistics] = {}
    if cache.disk is not None:
        bounded["disk"] = slow["disk"] = cache.disk
    if cache.redis is not None:
        slow["redis"] = cache.redis
    tiers: dict[str, MemoryStatistics | DiskStatistics | RedisStatistics] = {**bounded, **slow}
    return {
        "cache_requests_total": {
            **{(name, "hit"): tier.hits for name, tier in tiers.items()},
            **{(name, "miss"): tier.misses for name, tier in tiers.items()},
            **{(name, "stale"): tier.stale for name, tier in tiers.items()},
            **{(name, "error"): tier.errors for name, tier in slow.items()},
            **{(name, "bypass"): tier.bypassed for name, tier in slow.items()},
        },
        "cache_evictions_total": {name: tier.evictions for name, tier in bounded.items()},
        "cache_entries": {name: tier.entries for name, tier in bounded.items()},
        "cache_size_bytes": {name: tier.bytes for name, tier in bounded.items()},
        "cache_limit_bytes": {name: tier.limit_bytes for name, tier in bounded.items()},
        "cache_corrupt_total": {
            (name, why): tier.corrupt.get(why, 0) for name, tier in slow.items() for why in CORRUPTIONS[name]
        },
        "cache_dropped_writes_total": {
            **{(name, why): tier.dropped_writes.get(why, 0) for name, tier in slow.items() for why in DROPS[name]},
            **{("all", why): n for why, n in cache.dropped_writes.items()},
        },
        "cache_purges_total": cache.purges,
        **_room(cache.disk),
        **_redis(cache.link),
    }


def _room(disk: DiskStatistics | None) -> dict[str, Any]:
    if disk is None or disk.free_bytes is None or disk.size_bytes is None:
        return {"cache_disk_free_bytes": {}, "cache_disk_size_bytes": {}}
    return {"cache_disk_free_bytes": disk.free_bytes, "cache_disk_size_bytes": disk.size_bytes}


def _spools(spools: Mapping[str, Spool]) -> dict[str, Any]:
    told = {name: spool.statistics() for name, spool in spools.items()}
    results = ("hits", "fetches", "revalidations", "looks", "joined", "failures", "refused")
    return {
        "spool_entries": {name: one.entries for name, one in told.items()},
        "spool_size_bytes": {name: one.bytes for name, one in told.items()},
        "spool_limit_bytes": {name: one.limit_bytes for name, one in told.items()},
        "spool_waiting": {name: one.waiting for name, one in told.items()},
        "spool_requests_total": {(name, word): getattr(one, word) for name, one in told.items() for word in results},
        "spool_evictions_total": {name: one.evictions for name, one in told.items()},
    }


def _redis(link: LinkStatistics | None) -> dict[str, Any]:
    if link is None:
        return {"redis_up": {}, "redis_breaker_state": {}, "redis_pool_connections": {}}
    sides = {"read": link.read_breaker, "write": link.write_breaker}
    return {
        "redis_up": float(link.connected),
        "redis_breaker_state": {side: float(state == "open") for side, state in sides.items()},
        "redis_pool_connections": link.connections,
    }
