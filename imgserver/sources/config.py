"""Where originals come from, as an owner writes it: a folder, a web server, an object store, whole addresses."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, doc

from imgserver.sources.object_store import ObjectStoreSettings, refuse_malformed
from imgserver.sources.origin_cache.metadata import Lifetimes
from imgserver.sources.url_mapping import HttpSourceSettings

# How a spool is set, and what it tells of itself.

GIB = 1 << 30
MIB = 1 << 20


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
            raise ValueError("limit_bytes is less than two originals of item_bytes")
        if self.min_ttl_seconds > self.max_ttl_seconds:
            raise ValueError("min_ttl_seconds is more than max_ttl_seconds")

    @property
    def lifetimes(self) -> Lifetimes:
        return Lifetimes(
            least=self.min_ttl_seconds,
            most=self.max_ttl_seconds,
            silent=self.default_ttl_seconds,
            renew=self.stale_while_revalidate_seconds,
            error=max(self.stale_if_error_seconds, self.stale_while_revalidate_seconds),
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
    """One source: a folder (`root`) or a remote one (`url`), which is a web server (http, https) or an object store
    (s3, gs, az).

    `headers`, `allowed_redirects` and `allowed_networks` are for web servers; `endpoint`, `region` and `env_prefix` for
    object stores. Raises ValueError for settings that do not belong to the kind of source.
    """

    root: Annotated[Path, doc("folder with the originals")] = Path()
    url: Annotated[
        str, doc("location of the originals instead of a folder: an https:// URL, s3://bucket/prefix, gs:// or az://")
    ] = ""
    writable: Annotated[bool, doc("whether results of uploads may be stored in this source")] = False
    headers: Annotated[
        tuple[str, ...], doc('header lines such as "Authorization: Bearer ..." for every request below url')
    ] = field(default=(), repr=False)
    allowed_redirects: Annotated[tuple[str, ...], doc("URLs outside url to which redirects may lead")] = ()
    allowed_networks: Annotated[
        tuple[str, ...], doc("networks that may be connected to although they are not public, such as 10.1.0.0/16")
    ] = ()
    endpoint: Annotated[str, doc("URL of the object store's API, unless it is the provider's own")] = ""
    region: Annotated[str, doc("region of the object store")] = ""
    env_prefix: Annotated[
        str, doc("prefix of the environment variables with the credentials: SHOP_ reads SHOP_AWS_ACCESS_KEY_ID")
    ] = ""

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.url and self.root != Path():
            raise ValueError("root and url: a source is a folder or an address, not both")
        if self.kind != "http" and (self.headers or self.allowed_redirects or self.allowed_networks):
            raise ValueError("headers, allowed_redirects and allowed_networks belong to a url that begins with http")
        if self.kind != "objects" and (self.endpoint or self.region or self.env_prefix):
            raise ValueError("endpoint, region and env_prefix belong to a url that begins with s3, gs or az")
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
            base=self.url,
            allowed=self.allowed_redirects,
            networks=self.allowed_networks,
            headers=self.headers,
            spool=spool,
        )

    def store(self, fetching: "FetchSettings") -> ObjectStoreSettings:
        """Of an object store."""
        return ObjectStoreSettings(
            url=self.url,
            endpoint=self.endpoint,
            region=self.region,
            env_prefix=self.env_prefix,
            connect_seconds=fetching.connect_timeout_seconds,
            idle_seconds=fetching.idle_timeout_seconds,
            total_seconds=fetching.total_timeout_seconds,
            retries=fetching.max_attempts - 1,
        )


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """The time-outs, redirects and attempts of every remote source."""

    connect_timeout_seconds: Annotated[
        float, Gt(0), Le(60), doc("time-out of a connection: a free place, DNS, TCP and TLS")
    ] = 2
    idle_timeout_seconds: Annotated[float, Gt(0), Le(60), doc("longest time without a byte from the source")] = 5
    total_timeout_seconds: Annotated[
        float, Gt(0), Le(600), doc("time-out of one original: the wait for its turn, all attempts and all redirects")
    ] = 8
    max_redirects: Annotated[
        int, Ge(0), Le(10), doc("redirects that are followed; each target is checked like a URL")
    ] = 3
    max_attempts: Annotated[int, Ge(1), Le(5), doc("attempts for one original while its source fails")] = 3

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
            connect_seconds=self.connect_timeout_seconds,
            idle_seconds=self.idle_timeout_seconds,
            total_seconds=self.total_timeout_seconds,
            max_bytes=spool.item_bytes,
            redirects=self.max_redirects,
            attempts=self.max_attempts,
            connections=min(1000, spool.max_concurrent),
        )


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Originals that a request names by a whole URL.

    Those in `allowed_urls` are served to everybody, all others only to signed requests; `enabled` serves signed
    requests without any list. Raises ValueError for a malformed URL or network.
    """

    enabled: Annotated[
        bool, doc("whether signed URLs may name any URL; those that are listed in allowed_urls need no signature")
    ] = False
    allowed_urls: Annotated[
        tuple[str, ...],
        doc("URLs that every request may name, such as https://cdn.example.com/pictures/, https://*.example.com"),
    ] = ()
    allowed_networks: Annotated[
        tuple[str, ...], doc("networks that may be connected to although they are not public, such as 10.1.0.0/16")
    ] = ()

    def __post_init__(self) -> None:
        """Raises ValueError."""
        self.site(FetchSettings(), OriginCacheSettings())

    @property
    def are_served(self) -> bool:
        return self.enabled or bool(self.allowed_urls)

    def site(self, fetching: FetchSettings, spool: OriginCacheSettings) -> HttpSourceSettings:
        return fetching.of_site(
            base="", allowed=self.allowed_urls, networks=self.allowed_networks, headers=(), spool=spool
        )
