"""How a spool is set, and what it tells of itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Le

from imgserver.sources.facts import Lifetimes

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """`path` is the spool's own folder, of one origin. `limit_bytes` bounds its files in whole blocks,
    downloads under way included; a larger original than `item_bytes` is refused.

    `fetches` are asked of the origin at once, each for at most `fetch_seconds`; `waiting` requests may wait for them,
    which belongs below queue.room. An original is fresh for what the origin says, between `least_seconds` and
    `most_seconds`, or for `silent_seconds` when it says nothing; it is used for `renew_seconds` more while it is asked
    for behind, and for `error_seconds` while the origin fails, which is tried again every `pause_seconds`. An absent
    one is not asked for again within `absent_seconds`.
    """

    path: Path = Path()
    limit_bytes: Annotated[int, Ge(0)] = 2 * GIB
    item_bytes: Annotated[int, Ge(1)] = 64 * MIB
    fetches: Annotated[int, Ge(1), Le(10_000)] = 32
    waiting: Annotated[int, Ge(1), Le(100_000)] = 128
    fetch_seconds: Annotated[float, Gt(0), Le(600)] = 8.0
    least_seconds: Annotated[float, Ge(0)] = 1.0
    most_seconds: Annotated[float, Ge(0)] = 86_400.0
    silent_seconds: Annotated[float, Ge(0)] = 300.0
    renew_seconds: Annotated[float, Ge(0)] = 3600.0
    error_seconds: Annotated[float, Ge(0)] = 86_400.0
    pause_seconds: Annotated[float, Ge(0), Le(3600)] = 5.0
    absent_seconds: Annotated[float, Ge(0), Le(3600)] = 1.0

    def __post_init__(self) -> None:
        if self.limit_bytes < 2 * self.item_bytes:
            raise ValueError("limit_bytes is less than two originals of item_bytes")
        if self.least_seconds > self.most_seconds:
            raise ValueError("least_seconds is more than most_seconds")

    @property
    def lifetimes(self) -> Lifetimes:
        return Lifetimes(
            least=self.least_seconds,
            most=self.most_seconds,
            silent=self.silent_seconds,
            renew=self.renew_seconds,
            error=max(self.error_seconds, self.renew_seconds),
        )


@dataclass(frozen=True, slots=True)
class SpoolStatistics:
    """Totals count since the start."""

    entries: int
    bytes: int
    """Of the files kept, coming, and still read by somebody."""
    limit_bytes: int
    hits: int
    """Originals opened as they were kept."""
    fetches: int
    """Originals downloaded."""
    revalidations: int
    """Originals that the origin said to be unchanged."""
    looks: int
    """Looks at the origin where nothing was kept."""
    joined: int
    """Requests that waited for what another had asked for."""
    failures: int
    """Questions to the origin that ended in an error; an absent original is none."""
    refused: int
    """Requests refused because too many were waiting."""
    waiting: int
    """Requests that wait for the origin now."""
    asking: int
    """Questions that the origin is answering now."""
    evictions: int
    corrupt: int
    """Kept originals that were not what had been written."""
