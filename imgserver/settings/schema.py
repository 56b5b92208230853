"""The settings: one section per component, each the frozen values of that component. `settings/loader.py` reads them.

Nobody imports a settings object from here: the composition root hands each component its section. The range and the
meaning of a setting stand beside its field as `annotated_types` metadata; the reference page, the commented sample and
the messages of the loader are made from them. The last word of a name is its unit (`seconds`, `bytes`, `pixels`); a
value in bytes also takes text such as "64MiB".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, doc

from imgserver.cache.disk import DiskSettings
from imgserver.cache.memory import MemorySettings
from imgserver.cache.redis.client import RedisSettings
from imgserver.cache.tiered import TieredSettings
from imgserver.dialects.native import NativeSettings, preset_faults
from imgserver.engine.job import Limits, Quality
from imgserver.headers.caching import FreshnessSettings
from imgserver.observability.logs import LogSettings
from imgserver.rendering.admission_settings import AdmissionSettings
from imgserver.rendering.upload_admission import UploadSettings
from imgserver.rendering.worker_pool import WorkerSettings
from imgserver.security.api_keys import ApiKeySettings
from imgserver.security.networks import parse_address
from imgserver.security.rate_limit import QuotaSettings
from imgserver.security.signing import SigningSettings, read_key
from imgserver.sources.config import FetchSettings, RemoteSettings, SourceConfig
from imgserver.sources.origin_cache.settings import OriginCacheSettings

KEY_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The listening socket, its connections, and the shutdown."""

    host: Annotated[str, doc("address to listen on; 0.0.0.0 for all interfaces")] = "127.0.0.1"
    port: Annotated[
        int,
        Ge(0),
        Le(65_535),
        doc("port to listen on; 0 takes a free one; without a value here the variable PORT counts"),
    ] = 8080
    max_connections: Annotated[
        int, Ge(1), Le(1_000_000), doc("open connections; for a further one, the longest idle one is closed")
    ] = 2048
    backlog: Annotated[int, Ge(1), Le(65_535), doc("connections that the kernel holds until they are accepted")] = 1024
    header_timeout_seconds: Annotated[
        float,
        Gt(0),
        Le(600),
        doc("time to send the header of a request; for the first one from the connect on"),
    ] = 10
    keepalive_timeout_seconds: Annotated[
        float, Ge(0), Le(3600), doc("time after which an idle connection is closed")
    ] = 75
    write_timeout_seconds: Annotated[
        float,
        Gt(0),
        Le(600),
        doc("time in which a client must receive each 64 KiB of a response; then it is disconnected"),
    ] = 30
    drain_seconds: Annotated[float, Ge(0), Le(600), doc("time to finish the accepted requests after SIGTERM")] = 20
    gallery: Annotated[
        Literal["auto", "on", "off"],
        doc("front page that lists the originals; auto: for this machine only, while host is a loopback address"),
    ] = "auto"
    plugins: Annotated[
        tuple[str, ...],
        doc("Python modules that add dialects, sources, cache tiers or encoders (docs/extending.md), by dotted name"),
    ] = ()

    @property
    def is_local(self) -> bool:
        """Whether the server listens on a loopback address, so that only this machine can connect."""
        address = parse_address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback


@dataclass(frozen=True, slots=True)
class DefaultSource(SourceConfig):
    """The source of every URL that names no other source.

    Its own name is needed only for a folder in it that has the same name as another source.
    """

    name: Annotated[
        str, doc("its name, which comes first in a path that could otherwise be taken for another source's")
    ] = "photos"


@dataclass(frozen=True, slots=True)
class NamedSource(SourceConfig):
    """A further source; the first folder of a URL's path names it."""


@dataclass(frozen=True, slots=True)
class CacheSettings(MemorySettings):
    """The memory tier, and the freshness lifetime of renditions in all tiers."""

    ttl_seconds: Annotated[
        int,
        Ge(1),
        doc("freshness lifetime of a rendition (±10 %); stored for longer, to be served stale while it is revalidated"),
    ] = 86_400


@dataclass(frozen=True, slots=True)
class HttpSettings(FreshnessSettings):
    """Response headers for clients and CDNs, and who may read /metrics."""

    surrogate_key: Annotated[bool, doc("whether Surrogate-Key repeats Cache-Groups (Fastly)")] = False
    cache_tag: Annotated[bool, doc("whether Cache-Tag repeats Cache-Groups (Cloudflare)")] = False
    server_timing: Annotated[
        bool, doc("whether Server-Timing tells every client the time of each stage, and the cache tier of a hit")
    ] = False
    client_hints: Annotated[
        bool, doc("whether w_auto and dpr_auto are allowed, and Save-Data lowers the quality of q_auto")
    ] = False
    cors: Annotated[
        Literal["auto", "on", "off"],
        doc(
            "whether pages of other sites may read images (Access-Control-Allow-Origin: *); auto: yes, but while "
            "server.host is a loopback address only through a proxy"
        ),
    ] = "auto"
    metrics_public: Annotated[
        bool, doc("whether /metrics and all of /api/image/health answer everybody, or only this machine")
    ] = True


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Raises ValueError for a key that is too short."""

    key: Annotated[
        str,
        doc("an API key of scope admin, without an id; 16 characters or more; those of [api_keys] are safer"),
    ] = ""

    def __post_init__(self) -> None:
        if self.key and len(self.key) < KEY_CHARACTERS:
            raise ValueError(f"admin.key has {len(self.key)} characters; at least {KEY_CHARACTERS} are needed")


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """The security policy; `imgserver.security.policy` has its values."""

    policy: Annotated[
        Path,
        doc("YAML file: which clients may request what, how often (docs/policy.md); read again on SIGHUP; empty: none"),
    ] = Path()


@dataclass(frozen=True, slots=True)
class Settings:
    """Every section with its defaults; `Settings()` is a valid configuration of a local server.

    Raises ValueError if sections contradict each other, with one fault per line.
    """

    server: Annotated[ServerSettings, doc("The listening socket, its connections, and the shutdown.")] = field(
        default_factory=ServerSettings
    )
    source: Annotated[DefaultSource, doc("Where originals come from.")] = field(default_factory=DefaultSource)
    sources: Annotated[
        Mapping[str, NamedSource], doc("Further sources, with names of your choice: `/img/w_400/NAME/path`.")
    ] = field(default_factory=dict)
    remote: Annotated[
        RemoteSettings, doc("Originals named by a whole URL: `/img/w_400/https://example.com/photo.jpg`.")
    ] = field(default_factory=RemoteSettings)
    fetch: Annotated[FetchSettings, doc("Time-outs, redirects and retries of remote sources.")] = field(
        default_factory=FetchSettings
    )
    origin_cache: Annotated[
        OriginCacheSettings, doc("Local copies of remote originals: each is downloaded once for all its renditions.")
    ] = field(default_factory=OriginCacheSettings)
    workers: Annotated[
        WorkerSettings, doc("Processes that run libvips. Each renders one image at a time and can be killed alone.")
    ] = field(default_factory=WorkerSettings)
    queue: Annotated[
        AdmissionSettings,
        doc("Requests that wait for a worker. Further ones are refused immediately with 503 and Retry-After."),
    ] = field(default_factory=AdmissionSettings)
    limits: Annotated[
        Limits, doc("Originals that are refused before they are decoded, and results that are refused before any work.")
    ] = field(default_factory=Limits)
    quality: Annotated[Quality, doc("How images are scaled and encoded.")] = field(default_factory=Quality)
    native: Annotated[NativeSettings, doc("The URL grammar.")] = field(default_factory=NativeSettings)
    presets: Annotated[
        Mapping[str, Annotated[str, doc("one or more segments of options, as in a URL, separated by slashes")]],
        doc("Options with names of your choice: `/img/t_NAME/path` means the text of NAME here. Read again on SIGHUP."),
    ] = field(default_factory=dict)
    signing: Annotated[
        SigningSettings, doc("Signed URLs, which nobody can change or invent. Read again on SIGHUP.")
    ] = field(default_factory=SigningSettings)
    quota: Annotated[
        QuotaSettings,
        doc("Rate limit of new renditions of one original by unsigned URLs; beyond it 503 with Retry-After."),
    ] = field(default_factory=QuotaSettings)
    cache: Annotated[
        CacheSettings,
        doc("Renditions in memory, the first tier; and the freshness lifetime of renditions in all tiers."),
    ] = field(default_factory=CacheSettings)
    disk: Annotated[DiskSettings, doc("Renditions on disk, which survive a restart.")] = field(
        default_factory=DiskSettings
    )
    redis: Annotated[
        RedisSettings,
        doc("Renditions shared by all servers on one Redis; requests are answered whatever the state of Redis."),
    ] = field(default_factory=RedisSettings)
    tiers: Annotated[TieredSettings, doc("How disk and Redis are read, and written in the background.")] = field(
        default_factory=TieredSettings
    )
    tags: Annotated[
        Mapping[
            str,
            Annotated[
                str,
                doc("path patterns, separated by spaces; one that ends in / is a folder, * matches any text"),
            ],
        ],
        doc("Originals that are purged together, with names of your choice."),
    ] = field(default_factory=dict)
    security: Annotated[SecuritySettings, doc("The security policy.")] = field(default_factory=SecuritySettings)
    admin: Annotated[AdminSettings, doc("Purging over HTTP. Read again on SIGHUP.")] = field(
        default_factory=AdminSettings
    )
    api_keys: Annotated[
        Mapping[str, ApiKeySettings],
        doc(
            "API keys and their scopes, with ids of your choice; `imgserver api-keys new` prints a key and "
            "the lines for this section. Read again on SIGHUP."
        ),
    ] = field(default_factory=dict)
    uploads: Annotated[UploadSettings, doc("POST /api/image/optimize.")] = field(default_factory=UploadSettings)
    http: Annotated[HttpSettings, doc("Response headers for clients and CDNs, and who may read /metrics.")] = field(
        default_factory=HttpSettings
    )
    log: Annotated[LogSettings, doc("One event per line on standard error.")] = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        faults = [
            *preset_faults(self.presets, self.native, client_hints=self.http.client_hints),
            *self._keys_of_unknown_sources(),
        ]
        if faults:
            raise ValueError("\n".join(faults))

    def _keys_of_unknown_sources(self) -> Iterator[str]:
        known = {self.source.name, *self.sources}
        for number, text in enumerate(self.signing.keys, 1):
            for name in sorted(read_key(text).sources - known):
                yield f"signing: key {number} is tied to {name}, which is no source; known: {', '.join(sorted(known))}"
