"""The port of a cache tier: get, put, drop, sweep, statistics, start, close."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from imgserver.plan.rendition import GroupGenerations, Rendition

# Decides in a sweep whether a record stays, from its `expires` and its generations.
IsKept = Callable[[float | None, GroupGenerations], bool]


@dataclass(frozen=True, slots=True)
class SweepResult:
    """`removed` records. `incomplete` says why the tier was not searched to its end: "running", the search goes on and
    what it removed is not known yet; "failed", the tier could not be read."""

    removed: int = 0
    incomplete: Literal["", "running", "failed"] = ""


@dataclass(frozen=True, slots=True)
class TierStatistics:
    """Totals since the start, except `entries` and all byte counts. None: the tier has no such figure.

    A lookup is exactly one of hit, miss (a corrupt record included), stale (found, but expired or invalidated), error
    (no answer in time, or a refusal) and bypassed (the tier was not tried, because it is known to fail or too many
    calls wait for it). A tier counts a stale record as a hit; `TieredCache`, which judges it, moves the count.

    `corrupt` and `dropped_writes` have every possible reason as a key from the start. `free_bytes` and `size_bytes`
    belong to the file system that the tier writes to. `degraded`: lookups or writes are suspended at the moment, for
    the reason `degraded_reason`.
    `scanning`: writes are declined until the scan at start has ended.
    """

    hits: int = 0
    misses: int = 0
    stale: int = 0
    errors: int | None = None
    bypassed: int | None = None
    entries: int | None = None
    bytes: int | None = None
    limit_bytes: int | None = None
    evictions: int | None = None
    timeouts: int | None = None
    corrupt: Mapping[str, int] | None = None
    dropped_writes: Mapping[str, int] | None = None
    free_bytes: int | None = None
    size_bytes: int | None = None
    degraded: bool = False
    degraded_reason: str = ""
    scanning: bool = False


class Tier(Protocol):
    """One place for renditions. Every call bounds its own waiting time and raises nothing but CancelledError.

    A tier returns what was put, or nothing: bytes that differ are a miss, are removed, and are counted as corrupt. It
    judges neither expiry nor generations; `TieredCache` does.
    """

    @property
    def is_shared(self) -> bool:
        """Whether other servers read and write the same records. The server that is asked to purge sweeps them."""

    async def start(self) -> None:
        """Called once, before everything else. Does not wait for slow work such as a scan."""

    async def close(self) -> None:
        """Called once, after everything else. Later calls of `get` miss and later calls of `put` decline."""

    async def get(self, key: str, groups: Sequence[str] = (), /) -> Rendition | None:
        """`groups`: a tier that holds shared generations reads those of these groups along with the record."""

    async def put(self, key: str, rendition: Rendition) -> bool:
        """False: the rendition was not stored."""

    async def drop(self, key: str) -> None: ...

    async def sweep(self, is_kept: IsKept, groups: Sequence[str] = (), /) -> SweepResult:
        """Removes each record that is not kept. `groups` may narrow the search to records that can belong to them."""

    def statistics(self) -> TierStatistics: ...
