"""The settings of an origin cache, and the statistics that it reports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le, doc

from imgserver.runtime.resources import GIB, MIB


@dataclass(frozen=True, slots=True)
class OriginCacheSettings:
    """`path` is the folder of the cache; each origin has a folder of its own below it. `limit_bytes` bounds the files
    of one origin in whole blocks, downloads in progress included. An original larger than `item_bytes` is refused.

    An origin gets at most `max_concurrent` requests at the same time, and at most `max_waiting` clients wait for it,
    which must be fewer than queue.max_waiting. An original is fresh for the lifetime that its origin states, clamped
    to `min_ttl_seconds` and `max_ttl_seconds`, or for `default_ttl_seconds` when the origin states none. Then it is
    served for `stale_while_revalidate_seconds` more and revalidated in the background. While the origin fails, it is
    served until `stale_if_error_seconds` after its fresh lifetime; the origin is tried again every
    `retry_delay_seconds`. The response "not found" is cached for `negative_ttl_seconds`.
    """

    path: Annotated[
        Path, doc("folder of the local copies; empty is a folder of the default source in the user's cache")
    ] = Path()
    limit_bytes: Annotated[int, Ge(0), doc("total size of the copies of one source on disk")] = 2 * GIB
    item_bytes: Annotated[int, Ge(1), doc("size of the largest original that is downloaded")] = 64 * MIB
    max_concurrent: Annotated[int, Ge(1), Le(10_000), doc("concurrent requests to one source")] = 32
    max_waiting: Annotated[
        int, Ge(1), Le(100_000), doc("requests that may wait for one source; further ones are refused with 503")
    ] = 128
    default_ttl_seconds: Annotated[float, Ge(0), doc("freshness lifetime of an original whose source states none")] = (
        300.0
    )
    min_ttl_seconds: Annotated[float, Ge(0), doc("shortest freshness lifetime, whatever the source states")] = 1.0
    max_ttl_seconds: Annotated[float, Ge(0), doc("longest freshness lifetime, whatever the source states")] = 86_400.0
    stale_while_revalidate_seconds: Annotated[
        float, Ge(0), doc("how long a stale original is used while it is revalidated in the background")
    ] = 3600.0
    stale_if_error_seconds: Annotated[float, Ge(0), doc("how long a stale original is used while its source fails")] = (
        86_400.0
    )
    negative_ttl_seconds: Annotated[
        float, Ge(0), Le(3600), doc("how long the response that an original does not exist is cached")
    ] = 1.0
    retry_delay_seconds: Annotated[
        float, Ge(0), Le(3600), doc("how long a stale original is used without a new request after its source failed")
    ] = 5.0

    def __post_init__(self) -> None:
        if self.limit_bytes < 2 * self.item_bytes:
            raise ValueError("limit_bytes must be at least twice item_bytes")
        if self.min_ttl_seconds > self.max_ttl_seconds:
            raise ValueError("min_ttl_seconds must not exceed max_ttl_seconds")


@dataclass(frozen=True, slots=True)
class OriginCacheStatistics:
    """Totals count since the start of the server; `entries`, `bytes`, `waiting` and `fetching` are present values."""

    entries: int
    """Originals on disk."""
    bytes: int
    """Size on disk, with downloads in progress and deleted files that are still open."""
    limit_bytes: int
    hits: int
    """Originals that were opened without a request to the origin."""
    fetches: int
    """Originals that were downloaded."""
    revalidations: int
    """Conditional requests that the origin answered with "not modified"."""
    stat_requests: int
    """Requests for the metadata of originals that are not on disk."""
    coalesced: int
    """Requests that joined one in flight for the same original."""
    failures: int
    """Requests to the origin that failed; "not found" is not a failure."""
    refused: int
    """Requests refused because `max_waiting` others were waiting."""
    waiting: int
    """Requests that wait for the origin."""
    fetching: int
    """Requests in progress at the origin."""
    evictions: int
    """Originals deleted to make space for others."""
    corrupt: int
    """Files on disk whose content was not what had been written."""
