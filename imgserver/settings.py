"""Settings: each component's own frozen values as one section, read from one TOML file, the environment and options.

Precedence: option > `IMGSERVER_<SECTION>_<NAME>` > TOML `[section] name` > `PORT` (for server.port) > default. Nothing
imports a settings object from here: whoever needs a section is given it. Ranges stand beside their component as
`annotated_types` metadata; a setting's unit is the end of its name, and one that ends in `bytes` also takes "64MiB".
A list is one of texts, and its variable holds them parted by blanks.
"""

import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, GroupedMetadata, Gt, Le
from pydantic import TypeAdapter, ValidationError

from imgserver.admission import AdmissionSettings
from imgserver.caches.disk import DiskSettings
from imgserver.caches.link import RedisSettings
from imgserver.caches.memory import MemorySettings
from imgserver.caches.tiered import TieredSettings
from imgserver.dialects.native import NativeSettings
from imgserver.engine.job import Limits, Quality
from imgserver.errors import ImgserverError
from imgserver.freshness import FreshnessSettings
from imgserver.logs import LogSettings
from imgserver.tags import TagSettings
from imgserver.workers import WorkerSettings

PREFIX = "IMGSERVER_"
CONFIG_VARIABLE = "IMGSERVER_CONFIG"
KEY_CHARACTERS = 16
# Never printed.
SECRETS = frozenset({"admin.key", "redis.url"})
PLATFORM = {"PORT": "server.port", "REDIS_URL": "redis.url"}
# How the command line spells the settings it can give; the origin of a value and its faults are told in these words.
OPTIONS = {"server.host": "--host", "server.port": "--port", "workers.count": "--workers", "source.root": "DIR"}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The listening side. `port` 0 takes any free one; `drain_seconds` is how long SIGTERM waits for open requests.

    `gallery` is the front page that lists the folder: `auto` shows it while `host` is this machine's own address.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Ge(0), Le(65_535)] = 8080
    connections: Annotated[int, Ge(1), Le(1_000_000)] = 2048
    backlog: Annotated[int, Ge(1), Le(65_535)] = 1024
    header_seconds: Annotated[float, Gt(0), Le(600)] = 10
    keepalive_seconds: Annotated[float, Ge(0), Le(3600)] = 75
    drain_seconds: Annotated[float, Ge(0), Le(600)] = 20
    gallery: Literal["auto", "on", "off"] = "auto"


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Where originals come from: a folder, relative to the working directory."""

    root: Path = Path()


@dataclass(frozen=True, slots=True)
class CacheSettings(MemorySettings):
    """The memory tier, and how long any tier's picture is fresh; it is kept some times longer to be served stale."""

    fresh_seconds: Annotated[int, Ge(1)] = 86_400


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
    """`key` opens POST /api/admin/...; without one there is no such API."""

    key: str = ""

    def __post_init__(self) -> None:
        if self.key and len(self.key) < KEY_CHARACTERS:
            raise ValueError(f"admin.key has {len(self.key)} characters; at least {KEY_CHARACTERS} are needed")


@dataclass(frozen=True, slots=True)
class Settings:
    """Every section with its defaults; `Settings()` is a valid configuration of a local server."""

    server: ServerSettings = field(default_factory=ServerSettings)
    source: SourceSettings = field(default_factory=SourceSettings)
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    queue: AdmissionSettings = field(default_factory=AdmissionSettings)
    limits: Limits = field(default_factory=Limits)
    quality: Quality = field(default_factory=Quality)
    native: NativeSettings = field(default_factory=NativeSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    tiers: TieredSettings = field(default_factory=TieredSettings)
    tags: TagSettings = field(default_factory=TagSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    log: LogSettings = field(default_factory=LogSettings)


class BadSettings(ImgserverError):
    """All faults of one load; facts: faults, a tuple of sentences. Raised at boot, never while serving."""

    code: ClassVar[str] = "bad-settings"
    title: ClassVar[str] = "The settings are wrong"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from; `name` is the file, the variable or the option."""

    kind: Literal["default", "file", "env", "option"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and the origin of each by its dotted name (`server.port`)."""

    settings: Settings
    origins: Mapping[str, Origin]


@dataclass(frozen=True, slots=True)
class _Given:
    """One value somebody wrote. `label` is how they spelt its name."""

    name: str
    value: object
    origin: Origin
    label: str


def load(toml_path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Loaded:
    """Reads, validates and composes. `overrides` maps dotted names to values of the command line.

    Without `toml_path` the variable IMGSERVER_CONFIG may name the file. Raises BadSettings with every fault found: a
    value that a later origin replaces is checked as well.
    """
    faults: list[str] = []
    path = toml_path or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    given = [
        *_from_platform(environ),
        *(_from_file(path, faults) if path else ()),
        *_from_environment(environ, faults),
        *_from_options(overrides, faults),
    ]
    chosen = {one.name: (value, one.origin) for one in given for value in _valid(one, faults)}
    settings = _compose({name: value for name, (value, _) in chosen.items()}, faults)
    if faults:
        raise BadSettings("\n".join(faults), faults=tuple(faults))
    return Loaded(settings, {name: chosen[name][1] if name in chosen else Origin("default") for name in hints()})


@cache
def hints() -> Mapping[str, Any]:
    """The annotated type of every setting by its dotted name, in order of definition."""
    return {
        f"{section}.{name}": hint
        for section, kind in typing.get_type_hints(Settings).items()
        for name, hint in typing.get_type_hints(kind, include_extras=True).items()
    }


def values(settings: Settings) -> dict[str, object]:
    """Every value by its dotted name."""
    sections = {section.name: getattr(settings, section.name) for section in fields(settings)}
    return {f"{section}.{row.name}": getattr(of, row.name) for section, of in sections.items() for row in fields(of)}


def variable(name: str) -> str:
    """`server.port` -> `IMGSERVER_SERVER_PORT`."""
    return PREFIX + name.replace(".", "_").upper()


def _from_platform(environ: Mapping[str, str]) -> Iterator[_Given]:
    """Platforms export PORT and REDIS_URL; anything said to imgserver itself is stronger."""
    for key, name in PLATFORM.items():
        if environ.get(key):
            yield _Given(name, environ[key], Origin("env", key), key)


def _from_file(path: Path, faults: list[str]) -> Iterator[_Given]:
    sections = {section.name for section in fields(Settings)}
    for section, table in _read(path, faults).items():
        if section not in sections:
            faults.append(f"{path}: no section [{section}]{_nearest(section, sections)}")
        elif not isinstance(table, dict):
            faults.append(f"{path}: {section}: {table!r} is not allowed; a table [{section}] with names and values")
        else:
            yield from _from_table(path, section, table, faults)


def _from_table(path: Path, section: str, table: dict[str, Any], faults: list[str]) -> Iterator[_Given]:
    known = {name.partition(".")[2] for name in hints() if name.startswith(f"{section}.")}
    for key, value in table.items():
        if key in known:
            yield _Given(f"{section}.{key}", value, Origin("file", str(path)), f"{path}: {section}.{key}")
        else:
            faults.append(f"{path}: no setting {section}.{key}{_nearest(key, known, before=section + '.')}")


def _read(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as fault:
        faults.append(f"{path}: cannot be read: {fault.strerror}")
    except ValueError as fault:  # broken TOML, or not UTF-8
        faults.append(f"{path}: not valid TOML: {fault}")
    return {}


def _from_environment(environ: Mapping[str, str], faults: list[str]) -> Iterator[_Given]:
    known = {variable(name): name for name in hints()}
    for key in sorted(key for key in environ if key.startswith(PREFIX) and key != CONFIG_VARIABLE):
        if key in known:
            yield _Given(known[key], environ[key], Origin("env", key), key)
        else:
            faults.append(f"{key}: no such setting{_nearest(key, {*known, CONFIG_VARIABLE})}")


def _from_options(overrides: Mapping[str, object], faults: list[str]) -> Iterator[_Given]:
    known = set(hints())
    for name, value in overrides.items():
        if name in known:
            label = OPTIONS.get(name, name)
            yield _Given(name, value, Origin("option", label), label)
        else:
            faults.append(f"{name}: no such setting{_nearest(name, known)}")


def _nearest(name: str, known: set[str], *, before: str = "") -> str:
    found = get_close_matches(name, sorted(known), n=1)
    return f"; nearest: {before}{found[0]}" if found else f"; known: {', '.join(sorted(known))}" * (len(known) <= 12)


def _valid(given: _Given, faults: list[str]) -> Iterator[object]:
    """The value as its type, or nothing and a fault."""
    hint = hints()[given.name]
    try:
        yield _converted(given, hint)
    except (ValidationError, ValueError):
        faults.append(f'{given.label}: "{given.value}" is not allowed; {allowed(given.name)}')


def _converted(given: _Given, hint: Any) -> object:
    value = given.value
    if isinstance(value, bool) and bool not in _alternatives(hint):  # TOML's true would pass for a 1
        raise ValueError(value)
    if typing.get_origin(hint) is tuple and isinstance(value, str):
        value = value.split()
    if given.name.endswith("bytes") and isinstance(value, str):
        value = parse_size(value)
    return TypeAdapter(hint).validate_python(value)


# pydantic's own ByteSize reads the beginning of "3 MB or so" and drops the rest.
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of `4096`, `64MiB`, `1.5 GB`, `512k` (without the i: powers of 1000). Raises ValueError."""
    found = _SIZE.fullmatch(text.strip().replace("_", ""))
    if not found:
        raise ValueError(f"not a size: {text}")
    number, prefix, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index((prefix or " ").lower()))


def spell_size(count: int) -> str:
    """The shortest exact spelling: 67108864 -> `64MiB`."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{unit}"
    return str(count)


def _compose(chosen: Mapping[str, object], faults: list[str]) -> Settings:
    parts = {}
    for section, kind in typing.get_type_hints(Settings).items():
        own = {name.partition(".")[2]: value for name, value in chosen.items() if name.startswith(f"{section}.")}
        try:
            parts[section] = kind(**own)
        except ValueError as fault:  # what a component checks across its values
            faults.append(f"{section}: {fault}")
    return Settings(**parts)


_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def allowed(name: str) -> str:
    """What a setting takes, in words: `a whole number 0-65535`."""
    hint = hints()[name]
    words = " or ".join(_word(kind) for kind in _alternatives(hint))
    size = name.endswith("bytes")
    ranges = _range(getattr(hint, "__metadata__", ()), spell_size if size else str)
    return words + ranges + (', in bytes or as text like "64MiB"' if size else "")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    kind = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _word(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return "a list of texts; as a variable parted by blanks"
    return "nothing" if kind is type(None) else _WORDS.get(kind, str(kind))


def _range(metadata: tuple[Any, ...], spell: Callable[[Any], str]) -> str:
    low, above, high = _bound(metadata, Ge), _bound(metadata, Gt), _bound(metadata, Le)
    if low is not None and high is not None:
        return f" {spell(low)}-{spell(high)}"
    words = (("above", above), ("from", low), ("up to", high))
    return "".join(f" {word} {spell(bound)}" for word, bound in words if bound is not None)


def _bound(metadata: tuple[Any, ...], kind: type[Ge | Gt | Le]) -> Any:
    """The bound of that kind, also one inside an Interval."""
    rules = [rule for part in metadata for rule in (part if isinstance(part, GroupedMetadata) else (part,))]
    return next((getattr(rule, kind.__name__.lower()) for rule in rules if isinstance(rule, kind)), None)
