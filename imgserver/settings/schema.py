"""Settings: one section per component, each the frozen values of that component. `settings/loader.py` reads them.

Nothing imports a settings object from here: whoever needs a section is given it. Ranges stand beside their component
as `annotated_types` metadata; a setting's unit is the end of its name, and one that ends in `bytes` also takes
"64MiB". Some sections are tables of the owner's own names: `[sources.NAME]` with settings below each, `[tags]` with a
text for each. In `patterns` such a name is an asterisk.
"""

import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from imgserver.cache.disk import DiskSettings
from imgserver.cache.memory import MemorySettings
from imgserver.cache.redis.client import RedisSettings
from imgserver.cache.tiered import TieredSettings
from imgserver.dialects.native import NativeSettings, preset_faults
from imgserver.engine.job import Limits, Quality
from imgserver.headers.caching import FreshnessSettings
from imgserver.observability.logs import LogSettings
from imgserver.rendering.admission import AdmissionSettings
from imgserver.rendering.upload_admission import UploadSettings
from imgserver.rendering.worker_pool import WorkerSettings
from imgserver.security.api_keys import ApiKeySettings
from imgserver.security.rate_limit import QuotaSettings
from imgserver.security.signing import SigningSettings, read_key
from imgserver.sources.config import FetchSettings, OriginCacheSettings, RemoteSettings, SourceConfig

PREFIX = "IMGSERVER_"
KEY_CHARACTERS = 16
# What an owner may call a source, a preset or a key; as a variable spells it, dashes are underscores.
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
NAME_RULE = "a name is a small letter, then up to 31 small letters, digits and dashes"
# Never printed.
SECRETS = frozenset({"admin.key", "redis.url", "signing.keys", "source.headers", "sources.*.headers"})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The listening side. `port` 0 takes any free one; `drain_seconds` is how long SIGTERM waits for open requests.

    `gallery` is the front page that lists the folder: `auto` shows it while `host` is this machine's own address.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Ge(0), Le(65_535)] = 8080
    max_connections: Annotated[int, Ge(1), Le(1_000_000)] = 2048
    backlog: Annotated[int, Ge(1), Le(65_535)] = 1024
    header_timeout_seconds: Annotated[float, Gt(0), Le(600)] = 10
    keepalive_timeout_seconds: Annotated[float, Ge(0), Le(3600)] = 75
    write_timeout_seconds: Annotated[float, Gt(0), Le(600)] = 30
    drain_seconds: Annotated[float, Ge(0), Le(600)] = 20
    gallery: Literal["auto", "on", "off"] = "auto"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can ask."""
        return self.host in ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class DefaultSource(SourceConfig):
    """Serves what names no source. Its own name leads to a folder that shares another source's name."""

    name: str = "photos"


@dataclass(frozen=True, slots=True)
class NamedSource(SourceConfig):
    """A further source; a URL's first folder names it."""


@dataclass(frozen=True, slots=True)
class CacheSettings(MemorySettings):
    """The memory tier, and how long any tier's picture is fresh; it is kept some times longer to be served stale."""

    ttl_seconds: Annotated[int, Ge(1)] = 86_400


@dataclass(frozen=True, slots=True)
class HttpSettings(FreshnessSettings):
    """What clients and CDNs are told, and whether /metrics answers everybody.

    `surrogate_key` and `cache_tag` repeat Cache-Groups in the words of CDNs; `server_timing` tells everybody what took
    how long, and which tier had it; `client_hints` lets URLs ask for `w_auto` and `dpr_auto`, and Save-Data count.
    """

    surrogate_key: bool = False
    cache_tag: bool = False
    server_timing: bool = False
    client_hints: bool = False
    metrics_public: bool = True


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """`key` is an API key of scope admin without an id: it opens everything."""

    key: str = ""

    def __post_init__(self) -> None:
        if self.key and len(self.key) < KEY_CHARACTERS:
            raise ValueError(f"admin.key has {len(self.key)} characters; at least {KEY_CHARACTERS} are needed")


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """`policy` is a YAML file with who may ask and how much (see `imgserver.security.policy`), read again on SIGHUP."""

    policy: Path = Path()


@dataclass(frozen=True, slots=True)
class Settings:
    """Every section with its defaults; `Settings()` is a valid configuration of a local server.

    Raises ValueError for sections that do not go together, a fault a line.
    """

    server: ServerSettings = field(default_factory=ServerSettings)
    source: DefaultSource = field(default_factory=DefaultSource)
    sources: Mapping[str, NamedSource] = field(default_factory=dict)
    remote: RemoteSettings = field(default_factory=RemoteSettings)
    fetch: FetchSettings = field(default_factory=FetchSettings)
    spool: OriginCacheSettings = field(default_factory=OriginCacheSettings)
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    queue: AdmissionSettings = field(default_factory=AdmissionSettings)
    limits: Limits = field(default_factory=Limits)
    quality: Quality = field(default_factory=Quality)
    native: NativeSettings = field(default_factory=NativeSettings)
    presets: Mapping[str, str] = field(default_factory=dict)
    signing: SigningSettings = field(default_factory=SigningSettings)
    quota: QuotaSettings = field(default_factory=QuotaSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    tiers: TieredSettings = field(default_factory=TieredSettings)
    tags: Mapping[str, str] = field(default_factory=dict)
    security: SecuritySettings = field(default_factory=SecuritySettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    api_keys: Mapping[str, ApiKeySettings] = field(default_factory=dict)
    uploads: UploadSettings = field(default_factory=UploadSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        faults = [
            *preset_faults(self.presets, self.native, client_hints=self.http.client_hints),
            *self._keys_of_no_source(),
        ]
        if faults:
            raise ValueError("\n".join(faults))

    def _keys_of_no_source(self) -> Iterator[str]:
        known = {self.source.name, *self.sources}
        for number, text in enumerate(self.signing.keys, 1):
            for name in sorted(read_key(text).sources - known):
                yield f"signing: key {number} is tied to {name}, which is no source; known: {', '.join(sorted(known))}"


@cache
def hints() -> Mapping[str, Any]:
    """The annotated type of every setting by its dotted name, in order of definition."""
    return {
        f"{section}.{name}": hint
        for section, kind in typing.get_type_hints(Settings).items()
        if section not in named()
        for name, hint in typing.get_type_hints(kind, include_extras=True).items()
    }


@cache
def patterns() -> Mapping[str, Any]:
    """The same for what stands in tables of the owner's own names: `sources.*.root`, `presets.*`."""
    return {
        f"{section}.*{'.' * bool(name)}{name}": hint
        for section, kind in named().items()
        for name, hint in members(kind).items()
    }


def pattern_of(name: str) -> str:
    """`sources.cdn.root` -> `sources.*.root`; any other name as it is."""
    section, _, rest = name.partition(".")
    if section not in named():
        return name
    return f"{section}.*" + "".join(rest.partition(".")[1:])


@cache
def named() -> Mapping[str, Any]:
    """Sections that map names of the owner's to values of this type."""
    kinds = typing.get_type_hints(Settings).items()
    return {section: typing.get_args(kind)[1] for section, kind in kinds if typing.get_origin(kind) is Mapping}


def members(kind: Any) -> Mapping[str, Any]:
    """Settings below each name; what has none is one value by itself."""
    return typing.get_type_hints(kind, include_extras=True) if is_dataclass(kind) else {"": kind}


def hint_of(name: str) -> Any:
    return {**hints(), **patterns()}[pattern_of(name)]


def values(settings: Settings) -> dict[str, object]:
    """Every value by its dotted name."""
    found: dict[str, object] = {}
    for section in fields(settings):
        of = getattr(settings, section.name)
        if isinstance(of, Mapping):
            for name, one in of.items():
                found |= _flat(f"{section.name}.{name}", one)
        else:
            found |= _flat(section.name, of)
    return found


def _flat(name: str, of: Any) -> dict[str, object]:
    return {f"{name}.{row.name}": getattr(of, row.name) for row in fields(of)} if is_dataclass(of) else {name: of}


def variable(name: str) -> str:
    """`server.port` -> `IMGSERVER_SERVER_PORT`; `sources.*.root` -> `IMGSERVER_SOURCES_<NAME>_ROOT`."""
    return PREFIX + re.sub("[.-]", "_", name).upper().replace("*", "<NAME>")
