"""From the components' frozen statistics to the state series of `metrics.STATE`."""

from typing import Any

from imgserver.admission import SHED_REASONS
from imgserver.metrics import State
from imgserver.service import ImageService
from imgserver.web.connections import Guard
from imgserver.web.ledger import Ledger


def read(service: ImageService, guard: Guard, ledger: Ledger, *, ready: bool, dropped_lines: int) -> State:
    return {
        "ready": float(ready),
        "http_connections": guard.open,
        "http_requests_in_progress": ledger.in_progress,
        "client_disconnects_total": ledger.disconnects,
        "http_malformed_total": guard.malformed,
        "log_lines_dropped_total": dropped_lines,
        "coalesced_total": service.flights.statistics().coalesced,
        **_queue(service),
        **_workers(service),
        **_cache(service),
    }


def _queue(service: ImageService) -> dict[str, Any]:
    queue = service.admission.statistics()
    return {
        "queue_jobs": {("render", "ready"): queue.waiting, ("render", "running"): queue.running},
        "queue_limit": {"render": queue.limit},
        "queue_oldest_job_age_seconds": {"render": queue.oldest_wait_seconds},
        "waiting_tickets": queue.waiting_by_class,
        "predicted_wait_seconds": queue.predicted_wait_seconds,
        "decoded_bytes_in_flight": queue.decoded_bytes_in_flight,
        # Known label sets exist from the start: a series that is missing hides an alert.
        "shed_total": {**dict.fromkeys(SHED_REASONS, 0), **queue.shed},
    }


def _workers(service: ImageService) -> dict[str, Any]:
    workers = service.workers.statistics()
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
    memory = service.cache.statistics()
    return {
        "cache_requests_total": {("memory", "hit"): memory.hits, ("memory", "miss"): memory.misses},
        "cache_evictions_total": {"memory": memory.evictions},
        "cache_entries": {"memory": memory.entries},
        "cache_size_bytes": {"memory": memory.bytes},
        "cache_limit_bytes": {"memory": memory.limit_bytes},
    }
