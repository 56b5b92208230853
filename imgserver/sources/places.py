"""Where originals come from, as an owner writes it: a folder, a web server, an object store, whole addresses."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from imgserver.sources.objects import ObjectSettings, refuse_malformed
from imgserver.sources.sites import HttpSourceSettings
from imgserver.sources.terms import SpoolSettings

Kind = Literal["folder", "http", "objects"]


@dataclass(frozen=True, slots=True)
class Place:
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
            self.site(Fetching(), SpoolSettings())
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

    def site(self, fetching: "Fetching", spool: SpoolSettings) -> HttpSourceSettings:
        """Of a web server. Raises ValueError."""
        return fetching.of_site(
            base=self.url, allowed=self.redirects_to, networks=self.networks, headers=self.headers, spool=spool
        )

    def store(self, fetching: "Fetching") -> ObjectSettings:
        """Of an object store."""
        return ObjectSettings(
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
class Fetching:
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
        spool: SpoolSettings,
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
class Addresses:
    """Whole addresses in URLs. Those on the list `allowed` are served to everybody, all others to signed URLs only;
    `enabled` serves signed ones without any list. `networks`: CIDRs that may be dialled though they are not public."""

    enabled: bool = False
    allowed: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError."""
        self.site(Fetching(), SpoolSettings())

    @property
    def are_served(self) -> bool:
        return self.enabled or bool(self.allowed)

    def site(self, fetching: Fetching, spool: SpoolSettings) -> HttpSourceSettings:
        return fetching.of_site(base="", allowed=self.allowed, networks=self.networks, headers=(), spool=spool)
