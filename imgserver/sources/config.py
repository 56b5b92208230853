"""The settings of sources: where originals are, and how remote ones are fetched."""

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from annotated_types import Ge, Gt, Le, doc

from imgserver.security.allow_list import AllowList
from imgserver.security.ssrf import SsrfFilter
from imgserver.sources.schemes import SCHEMES, Scheme


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source: a folder (`root`), or a `url` whose scheme decides which other settings it takes (see `SCHEMES`).

    `headers` are secret. An object store's credentials come from the environment.
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
            raise ValueError("root and url: a source is a folder or a URL, not both")
        self.row.refuse_wrong(self)

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0].lower() if self.url else "file"

    @property
    def row(self) -> Scheme:
        """The scheme's row of SCHEMES. Raises ValueError for an unknown scheme, which may hold a secret."""
        if self.scheme not in SCHEMES:
            raise ValueError(f"url: must begin with one of {', '.join(f'{name}://' for name in SCHEMES)}")
        return SCHEMES[self.scheme]

    @property
    def folder(self) -> Path | None:
        """The folder of a source of the scheme `file`; None for other schemes."""
        if self.scheme != "file":
            return None
        return Path(unquote(urlsplit(self.url).path)) if self.url else self.root

    @property
    def title(self) -> str:
        """For people: the last part of the folder's path or of the URL."""
        return self.url.rstrip("/").rpartition("/")[2] if self.folder is None else self.folder.resolve().name

    @property
    def identity(self) -> str:
        """Distinguishes what this source serves from what all others serve: copies of one must never be served as
        another's. Credentials are not a part of it. For digests alone: a URL may hold other secrets."""
        return self.row.identity_of(self)

    def changed(self) -> set[str]:
        """The names of the settings that do not have their defaults."""
        rows = (row for row in fields(SourceConfig) if row.default is not MISSING)
        return {row.name for row in rows if getattr(self, row.name) != row.default}


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Time-outs and retries for originals of all remote sources. `total_timeout_seconds` bounds one original: the wait
    for its turn, all attempts and all redirects."""

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


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Originals that a request names by a whole URL.

    Those in `allowed_urls` are served to everybody, all others only to signed requests; `enabled` serves signed
    requests without any list.
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
        AllowList(self.allowed_urls)
        SsrfFilter(self.allowed_networks)

    @property
    def are_served(self) -> bool:
        return self.enabled or bool(self.allowed_urls)
