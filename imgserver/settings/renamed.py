"""Settings that have a new name. An old name stops the server at its start; the message says the new one.

A row renames one setting (`queue.room`), one setting in every table of a section with names of the owner's choice
(`sources.*.networks`), or a whole section (`spool`). Below a renamed section, only the settings that changed their own
name as well need a row.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache

from imgserver.settings.names import NAME, PREFIX, hints, pattern_of, patterns, variable

RENAMED: Mapping[str, str] = {
    "cache.fresh_seconds": "cache.ttl_seconds",
    "disk.call_seconds": "disk.timeout_seconds",
    "disk.pause_seconds": "disk.retry_delay_seconds",
    "fetch.attempts": "fetch.max_attempts",
    "fetch.connect_seconds": "fetch.connect_timeout_seconds",
    "fetch.idle_seconds": "fetch.idle_timeout_seconds",
    "fetch.redirects": "fetch.max_redirects",
    "fetch.total_seconds": "fetch.total_timeout_seconds",
    "quality.avif_effort_pixels": "quality.avif_effort_max_pixels",
    "quality.headroom": "quality.shrink_headroom",
    "quality.jpeg_optimise": "quality.jpeg_optimize",
    "quality.linear": "quality.linear_light",
    "queue.decoded_bytes": "queue.max_decoded_bytes",
    "queue.room": "queue.max_waiting",
    "redis.connections": "redis.max_connections",
    "remote.allowed": "remote.allowed_urls",
    "remote.networks": "remote.allowed_networks",
    "server.connections": "server.max_connections",
    "server.header_seconds": "server.header_timeout_seconds",
    "server.keepalive_seconds": "server.keepalive_timeout_seconds",
    "server.write_seconds": "server.write_timeout_seconds",
    "source.networks": "source.allowed_networks",
    "source.redirects_to": "source.allowed_redirects",
    "source.variables": "source.env_prefix",
    "sources.*.networks": "sources.*.allowed_networks",
    "sources.*.redirects_to": "sources.*.allowed_redirects",
    "sources.*.variables": "sources.*.env_prefix",
    "spool": "origin_cache",
    "spool.absent_seconds": "origin_cache.negative_ttl_seconds",
    "spool.error_seconds": "origin_cache.stale_if_error_seconds",
    "spool.fetch_seconds": "fetch.total_timeout_seconds",
    "spool.fetches": "origin_cache.max_concurrent",
    "spool.least_seconds": "origin_cache.min_ttl_seconds",
    "spool.most_seconds": "origin_cache.max_ttl_seconds",
    "spool.pause_seconds": "origin_cache.retry_delay_seconds",
    "spool.renew_seconds": "origin_cache.stale_while_revalidate_seconds",
    "spool.silent_seconds": "origin_cache.default_ttl_seconds",
    "spool.waiting": "origin_cache.max_waiting",
    "tiers.write_bytes": "tiers.write_queue_bytes",
    "uploads.at_once": "uploads.max_concurrent",
    "uploads.body_bytes": "uploads.max_body_bytes",
    "uploads.body_seconds": "uploads.body_timeout_seconds",
    "uploads.idle_seconds": "uploads.idle_timeout_seconds",
    "uploads.parts": "uploads.max_parts",
    "uploads.path": "uploads.temp_path",
    "uploads.space_bytes": "uploads.max_temp_bytes",
    "uploads.wait_seconds": "uploads.max_wait_seconds",
    "uploads.waiting": "uploads.max_waiting",
}


def new_name(name: str) -> str | None:
    """The present name of a setting or section that was renamed; None for any other name."""
    new = old_names().get(pattern_of(name)) or RENAMED.get(name)
    return new.replace("*", name.split(".")[1]) if new and "*" in new else new


def new_variable(key: str) -> str | None:
    """The present environment variable of a setting that was renamed; None for any other variable."""
    for old, new in old_names().items():
        owner = owner_name(key, old) if "*" in old else ""
        if owner:
            return variable(new.replace("*", owner))
        if variable(old) == key:
            return variable(new)
    return None


def owner_name(key: str, pattern: str) -> str:
    """The name that a variable puts at the asterisk: `my-shop` for `IMGSERVER_SOURCES_MY_SHOP_ROOT` and
    `sources.*.root`; empty if the variable does not match the pattern."""
    before, after = (variable(part) for part in pattern.split("*"))
    found = re.fullmatch(f"{before}([A-Z0-9_]+){after.removeprefix(PREFIX)}", key)
    name = found[1].lower().replace("_", "-") if found else ""
    return name if NAME.fullmatch(name) else ""


@cache
def old_names() -> Mapping[str, str]:
    """Every old dotted name or pattern with the new one; a renamed section has a row for each of its settings."""
    single = {old: new for old, new in RENAMED.items() if "." in old}
    sections = {old: new for old, new in RENAMED.items() if "." not in old}
    return single | {old: new for pair in sections.items() for old, new in _moved(*pair) if new not in single.values()}


def _moved(old: str, new: str) -> Iterator[tuple[str, str]]:
    for name in (*hints(), *patterns()):
        if name.startswith(f"{new}."):
            yield old + name.removeprefix(new), name
