"""Where originals come from, as an owner writes it: a folder, a web server, an object store, whole addresses."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from imgserver.sources.object_store import ObjectStoreSettings, refuse_malformed
from imgserver.sources.origin_cache.metadata import Lifetimes
from imgserver.sources.url_mapping import HttpSourceSettings

# How a spool is set, and what it tells of itself.

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class OriginCacheSettings:
    """`path` is the spool's own folder, of one origin. `limit_bytes` bounds its files in whole blocks,
    downloads under way included; a larger original than `item_bytes` is refused.

    `fetches` are asked of the origin at once, each for at most `fetch_seconds`; `waiting` requests may wait for them,
    which belongs below queue.max_waiting. An original is fresh for what the origin says, between `least_seconds` and
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
class OriginCacheStatistics:
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
    stat_requests: int
    """Looks at the origin where nothing was kept."""
    coalesced: int
    """Requests that waited for what another had asked for."""
    failures: int
    """FetchQueue to the origin that ended in an error; an absent original is none."""
    refused: int
    """Requests refused because too many were waiting."""
    waiting: int
    """Requests that wait for the origin now."""
    fetching: int
    """FetchQueue that the origin is answering now."""
    evictions: int
    corrupt: int
    """Kept originals that were not what had been written."""


Kind = Literal["folder", "http", "objects"]


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A folder (`root`), or what an address (`url`) is in front of: http and https for a web server, s3, gs and az for
    an object store.

    `writable` lets uploads be stored there. Of a web server: secret `headers` lines go with every request below `url`,
    its redirects may lead to `redirects_to` as well, and `networks` are CIDRs that may be dialled though they are not
    public. Of a store: `endpoint` and `region` where it is not Amazon's own; its keys are in the environment, with
    `variables` before their names.
    """

    root: Path = Path()
    url: str = ""
    writable: bool = False
    headers: tuple[str, ...] = field(default=(), repr=False)
    redirects_to: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    endpoint: str = ""
    region: str = ""
    variables: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.url and self.root != Path():
            raise ValueError("root and url: a source is a folder or an address, not both")
        if self.kind != "http" and (self.headers or self.redirects_to or self.networks):
            raise ValueError("headers, redirects_to and networks belong to a url that begins with http")
        if self.kind != "objects" and (self.endpoint or self.region or self.variables):
            raise ValueError("endpoint, region and variables belong to a url that begins with s3, gs or az")
        if self.kind == "http":
            if self.writable:
                raise ValueError("writable: a web server is only read")
            self.site(FetchSettings(), OriginCacheSettings())
        if self.kind == "objects":
            refuse_malformed(self.url, self.endpoint)

    @property
    def kind(self) -> Kind:
        """Raises ValueError for an address of another scheme."""
        scheme = self.url.partition("://")[0].lower()
        if not self.url:
            return "folder"
        if scheme in ("http", "https"):
            return "http"
        if scheme in ("s3", "gs", "az"):
            return "objects"
        raise ValueError("url: it begins with https://, http://, s3://, gs:// or az://")

    @property
    def title(self) -> str:
        """For people: the last part of where it is."""
        return self.url.rstrip("/").rpartition("/")[2] if self.url else self.root.resolve().name

    @property
    def identity(self) -> str:
        """Tells it from every other place: what is kept of one must not be taken for another's."""
        return f"{self.url} {self.endpoint}" if self.url else str(self.root.resolve())

    def site(self, fetching: "FetchSettings", spool: OriginCacheSettings) -> HttpSourceSettings:
        """Of a web server. Raises ValueError."""
        return fetching.of_site(
            base=self.url, allowed=self.redirects_to, networks=self.networks, headers=self.headers, spool=spool
        )

    def store(self, fetching: "FetchSettings") -> ObjectStoreSettings:
        """Of an object store."""
        return ObjectStoreSettings(
            url=self.url,
            endpoint=self.endpoint,
            region=self.region,
            variables=self.variables,
            connect_seconds=fetching.connect_seconds,
            idle_seconds=fetching.idle_seconds,
            total_seconds=fetching.total_seconds,
            retries=fetching.attempts - 1,
        )


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How long any far source may take. `total_seconds` is for all attempts and redirects of one download together."""

    connect_seconds: Annotated[float, Gt(0), Le(60)] = 2
    idle_seconds: Annotated[float, Gt(0), Le(60)] = 5
    total_seconds: Annotated[float, Gt(0), Le(600)] = 8
    redirects: Annotated[int, Ge(0), Le(10)] = 3
    attempts: Annotated[int, Ge(1), Le(5)] = 3

    def of_site(
        self,
        *,
        base: str,
        allowed: tuple[str, ...],
        networks: tuple[str, ...],
        headers: tuple[str, ...],
        spool: OriginCacheSettings,
    ) -> HttpSourceSettings:
        """Raises ValueError."""
        return HttpSourceSettings(
            base=base,
            allowed=allowed,
            networks=networks,
            headers=headers,
            connect_seconds=self.connect_seconds,
            idle_seconds=self.idle_seconds,
            total_seconds=self.total_seconds,
            max_bytes=spool.item_bytes,
            redirects=self.redirects,
            attempts=self.attempts,
            connections=min(1000, spool.fetches),
        )


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Whole addresses in URLs. Those on the list `allowed` are served to everybody, all others to signed URLs only;
    `enabled` serves signed ones without any list. `networks`: CIDRs that may be dialled though they are not public."""

    enabled: bool = False
    allowed: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError."""
        self.site(FetchSettings(), OriginCacheSettings())

    @property
    def are_served(self) -> bool:
        return self.enabled or bool(self.allowed)

    def site(self, fetching: FetchSettings, spool: OriginCacheSettings) -> HttpSourceSettings:
        return fetching.of_site(base="", allowed=self.allowed, networks=self.networks, headers=(), spool=spool)
