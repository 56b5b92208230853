"""Reads settings from one TOML file, the environment and the command line, validates them, and composes `Settings`.

Precedence, highest first: option, variable `IMGSERVER_<SECTION>_<NAME>`, TOML `[section] name`, platform variable
(`PORT` for server.port, `REDIS_URL` for redis.url), default.
"""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import ValidationError

from imgserver.errors import ImgserverError
from imgserver.settings.convert import convert
from imgserver.settings.describe import allowed
from imgserver.settings.kubernetes import is_service_variable
from imgserver.settings.names import (
    NAME,
    NAME_RULE,
    PREFIX,
    SECRETS,
    hint_of,
    hints,
    members,
    named,
    pattern_of,
    patterns,
    values,
    variable,
)
from imgserver.settings.plugins import import_plugins
from imgserver.settings.renamed import new_name, new_variable, owner_name
from imgserver.settings.schema import Settings
from imgserver.settings.toml_file import TomlFile

CONFIG_VARIABLE = "IMGSERVER_CONFIG"
PLATFORM = {"PORT": "server.port", "REDIS_URL": "redis.url"}
# The options of `imgserver serve` that are settings. Origins and error messages name the option, not the setting.
OPTIONS = {"server.host": "--host", "server.port": "--port", "workers.count": "--workers", "source.root": "DIR"}


class BadSettings(ImgserverError):
    """All errors of one load; facts: faults, a tuple of sentences."""

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
    """The settings, the origin of each value by its dotted name (`server.port`), and the variables that were ignored
    because Kubernetes sets them for a Service."""

    settings: Settings
    origins: Mapping[str, Origin]
    ignored_variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Given:
    """A value from one origin, not validated yet. `label` is its name for error messages, as the owner wrote it."""

    name: str
    value: object
    origin: Origin
    label: str
    file: TomlFile | None = None

    def __str__(self) -> str:
        return f"{self.file.where(self.name)}: {self.label}" if self.file else self.label


def load(toml_path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Loaded:
    """Reads all origins, validates every value and composes the settings.

    Imports the plug-ins that the settings name. Without `toml_path` the variable IMGSERVER_CONFIG names the file, if it
    is set. `overrides` maps dotted names to values of the command line. Raises BadSettings with all errors together; a
    value is validated even if an origin of higher precedence replaces it.
    """
    loaded, faults = load_valid(toml_path, environ, overrides)
    if faults:
        raise BadSettings("\n".join(faults), faults=faults)
    return loaded


def load_valid(
    toml_path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> tuple[Loaded, tuple[str, ...]]:
    """As `load`, but returns all errors instead of raising them, with settings in which faulty values have their
    defaults."""
    faults: list[str] = []
    path = toml_path or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    file = TomlFile.read(path, faults) if path else None
    ignored = tuple(key for key in sorted(environ) if _is_ignored(key, environ[key]))
    given = [
        *_from_platform(environ),
        *(_from_file(file, faults) if file else ()),
        *_from_environment({key: environ[key] for key in environ if key not in ignored}, faults),
        *_from_options(overrides, faults),
    ]
    chosen = {one.name: (value, one.origin) for one in given for value in _valid(one, faults)}
    found = {name: value for name, (value, _) in chosen.items()}
    # First of all: a plug-in may bring what other settings name, such as the scheme of a source.
    faults.extend(import_plugins(cast(tuple[str, ...], found.get("server.plugins", ()))))
    settings = _compose(found, faults, file)
    origins = {name: chosen[name][1] if name in chosen else Origin("default") for name in values(settings)}
    return Loaded(settings, origins, ignored), tuple(dict.fromkeys(faults))


def _is_ignored(key: str, value: str) -> bool:
    if not key.startswith(PREFIX) or not is_service_variable(key.removeprefix(PREFIX), value):
        return False
    # A setting of this name takes the value, unless the value is an address, which none but Redis takes.
    return "://" in value or not (key in {variable(name) for name in hints()} or _named_by(key))


def _from_platform(environ: Mapping[str, str]) -> Iterator[_Given]:
    """Variables that platforms export; they have the lowest precedence."""
    for key, name in PLATFORM.items():
        if environ.get(key):
            yield _Given(name, environ[key], Origin("env", key), key)


def _from_file(file: TomlFile, faults: list[str]) -> Iterator[_Given]:
    sections = {section.name for section in fields(Settings)}
    for section, table in file.tables.items():
        if section not in sections:
            faults.extend(_unknown_section(file, section, table, sections))
        elif not isinstance(table, dict):
            faults.append(_no_table(file, section))
        elif section in named():
            yield from _from_named(file, section, table, faults)
        else:
            yield from _from_table(file, section, table, _settings_of(section), faults)


def _unknown_section(file: TomlFile, section: str, table: object, sections: set[str]) -> Iterator[str]:
    new = new_name(section)
    if new is None:
        yield f"{file.where(section)}: no section [{section}]{nearest(section, sections)}"
        return
    yield f"{file.where(section)}: [{section}] is now [{new}]"
    for key in table if isinstance(table, dict) else ():
        yield _unknown_setting(file, section, key, _settings_of(new))


def _unknown_setting(file: TomlFile, table: str, key: str, known: set[str]) -> str:
    name = f"{table}.{key}"
    new = new_name(name)
    what = f"{name} is now {new}" if new else f"no setting {name}{nearest(key, known, before=f'{table}.')}"
    return f"{file.where(name)}: {what}"


def _from_named(file: TomlFile, section: str, table: dict[str, Any], faults: list[str]) -> Iterator[_Given]:
    for name, inside in table.items():
        full = f"{section}.{name}"
        if not NAME.fullmatch(name):
            faults.append(f"{file.where(full)}: {full}: {NAME_RULE}")
        elif not is_dataclass(named()[section]):
            yield _given(file, full, inside)
        elif isinstance(inside, dict):
            yield from _from_table(file, full, inside, set(members(named()[section])), faults)
        else:
            faults.append(_no_table(file, full))


def _from_table(
    file: TomlFile, table: str, values: Mapping[str, Any], known: set[str], faults: list[str]
) -> Iterator[_Given]:
    for key, value in values.items():
        if key in known:
            yield _given(file, f"{table}.{key}", value)
        else:
            faults.append(_unknown_setting(file, table, key, known))


def _given(file: TomlFile, name: str, value: object) -> _Given:
    return _Given(name, value, Origin("file", str(file.path)), name, file)


def _no_table(file: TomlFile, name: str) -> str:
    """The value is not shown: that of `redis` may be a URL with a password."""
    return f"{file.where(name)}: {name}: one value is not allowed; a table [{name}] with names and values"


def _settings_of(section: str) -> set[str]:
    return {name.partition(".")[2] for name in hints() if name.startswith(f"{section}.")}


def _from_environment(environ: Mapping[str, str], faults: list[str]) -> Iterator[_Given]:
    known = {variable(name): name for name in hints()}
    for key in sorted(key for key in environ if key.startswith(PREFIX) and key != CONFIG_VARIABLE):
        name = known.get(key) or _named_by(key)
        if name:
            yield _Given(name, environ[key], Origin("env", key), key)
        elif new := new_variable(key):
            faults.append(f"{key} is now {new}")
        else:
            faults.append(f"{key}: no such setting{nearest(key, {*known, CONFIG_VARIABLE})}")


def _named_by(key: str) -> str | None:
    """`IMGSERVER_SOURCES_MY_SHOP_ROOT` -> `sources.my-shop.root`; None for a variable that matches no pattern."""
    owners = ((pattern, owner_name(key, pattern)) for pattern in patterns())
    return next((pattern.replace("*", owner) for pattern, owner in owners if owner), None)


def _from_options(overrides: Mapping[str, object], faults: list[str]) -> Iterator[_Given]:
    known = set(hints())
    for name, value in overrides.items():
        if name in known:
            label = OPTIONS.get(name, name)
            yield _Given(name, value, Origin("option", label), label)
        elif new := new_name(name):
            faults.append(f"{name} is now {new}")
        else:
            faults.append(f"{name}: no such setting{nearest(name, known)}")


def nearest(name: str, known: set[str], *, before: str = "") -> str:
    """The end of an error message about an unknown name: the nearest known name, or all of them if they are few."""
    found = get_close_matches(name, sorted(known), n=1)
    return f"; nearest: {before}{found[0]}" if found else f"; known: {', '.join(sorted(known))}" * (len(known) <= 12)


def _valid(given: _Given, faults: list[str]) -> Iterator[object]:
    """Yields the value as its type, or adds a fault and yields nothing."""
    hint = hint_of(given.name)
    try:
        yield convert(given.name, given.value, hint)
    except (ValidationError, ValueError):
        shown = "(hidden)" if pattern_of(given.name) in SECRETS else f'"{given.value}"'
        faults.append(f"{given}: {shown} is not allowed; {allowed(given.name)}")


def _compose(chosen: Mapping[str, object], faults: list[str], file: TomlFile | None) -> Settings:
    parts: dict[str, Any] = {}
    for section, kind in typing.get_type_hints(Settings).items():
        own = {name.partition(".")[2]: value for name, value in chosen.items() if name.startswith(f"{section}.")}
        composed = (
            _composed_by_name(section, own, faults, file)
            if section in named()
            else _composed(section, kind, own, faults, file)
        )
        if composed is not None:
            parts[section] = composed
    try:
        return Settings(**parts)
    except ValueError as fault:
        faults.extend(_located(line, line.partition(":")[0], file) for line in str(fault).splitlines())
        return Settings()


def _composed_by_name(
    section: str, own: Mapping[str, object], faults: list[str], file: TomlFile | None
) -> Mapping[str, Any]:
    kind = named()[section]
    if not is_dataclass(kind):
        return own
    made = {}
    for name in dict.fromkeys(full.partition(".")[0] for full in own):
        inside = {full.partition(".")[2]: value for full, value in own.items() if full.startswith(f"{name}.")}
        composed = _composed(f"{section}.{name}", kind, inside, faults, file)
        if composed is not None:
            made[name] = composed
    return made


def _composed(name: str, kind: Any, own: Mapping[str, object], faults: list[str], file: TomlFile | None) -> Any:
    """The values of one component; None and a fault if the component raises ValueError because they conflict."""
    try:
        return kind(**own)
    except ValueError as fault:
        faults.append(_located(f"{name}: {fault}", name, file))
        return None


def _located(fault: str, name: str, file: TomlFile | None) -> str:
    """A fault that concerns several values, with the place of the setting or section `name` if the file has it."""
    return f"{file.where(name)}: {fault}" if file and file.positions.of(name) else fault
