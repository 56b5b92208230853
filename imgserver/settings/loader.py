"""Reads settings from one TOML file, the environment and the command line, validates them, and composes `Settings`.

Precedence, highest first: option, variable `IMGSERVER_<SECTION>_<NAME>`, TOML `[section] name`, platform variable
(`PORT` for server.port, `REDIS_URL` for redis.url), default.
"""

import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import TypeAdapter, ValidationError

from imgserver.errors import ImgserverError
from imgserver.settings.describe import allowed, alternatives, parse_size
from imgserver.settings.names import (
    NAME,
    NAME_RULE,
    PREFIX,
    SECRETS,
    bare,
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
    """The settings, and the origin of each value by its dotted name (`server.port`)."""

    settings: Settings
    origins: Mapping[str, Origin]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value from one origin, not validated yet. `label` is its name for error messages, as the owner wrote it."""

    name: str
    value: object
    origin: Origin
    label: str


def load(toml_path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Loaded:
    """Reads all origins, validates every value and composes the settings.

    Imports the plug-ins that the settings name. Without `toml_path` the variable IMGSERVER_CONFIG names the file, if it
    is set. `overrides` maps dotted names to values of the command line. Raises BadSettings with all errors together; a
    value is validated even if an origin of higher precedence replaces it.
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
    found = {name: value for name, (value, _) in chosen.items()}
    # First of all: a plug-in may bring what other settings name, such as the scheme of a source.
    faults.extend(import_plugins(cast(tuple[str, ...], found.get("server.plugins", ()))))
    settings = _compose(found, faults)
    if faults:
        raise BadSettings("\n".join(faults), faults=tuple(faults))
    origins = {name: chosen[name][1] if name in chosen else Origin("default") for name in values(settings)}
    return Loaded(settings, origins)


def _from_platform(environ: Mapping[str, str]) -> Iterator[_Given]:
    """Variables that platforms export; they have the lowest precedence."""
    for key, name in PLATFORM.items():
        if environ.get(key):
            yield _Given(name, environ[key], Origin("env", key), key)


def _from_file(path: Path, faults: list[str]) -> Iterator[_Given]:
    sections = {section.name for section in fields(Settings)}
    for section, table in _read(path, faults).items():
        if section not in sections:
            faults.extend(_unknown_section(path, section, table, sections))
        elif not isinstance(table, dict):
            faults.append(f"{path}: {section}: {table!r} is not allowed; a table [{section}] with names and values")
        elif section in named():
            yield from _from_named(path, section, table, faults)
        else:
            yield from _from_table(path, section, table, faults)


def _unknown_section(path: Path, section: str, table: object, sections: set[str]) -> Iterator[str]:
    new = new_name(section)
    if new is None:
        yield f"{path}: no section [{section}]{nearest(section, sections)}"
        return
    yield f"{path}: [{section}] is now [{new}]"
    for key in table if isinstance(table, dict) else ():
        yield _unknown_setting(path, section, key, _settings_of(new))


def _unknown_setting(path: Path, table: str, key: str, known: set[str]) -> str:
    name = f"{table}.{key}"
    new = new_name(name)
    return (
        f"{path}: {name} is now {new}" if new else f"{path}: no setting {name}{nearest(key, known, before=f'{table}.')}"
    )


def _from_named(path: Path, section: str, table: dict[str, Any], faults: list[str]) -> Iterator[_Given]:
    for name, inside in table.items():
        full = f"{section}.{name}"
        if not NAME.fullmatch(name):
            faults.append(f"{path}: {full}: {NAME_RULE}")
        elif not is_dataclass(named()[section]):
            yield _Given(full, inside, Origin("file", str(path)), f"{path}: {full}")
        elif isinstance(inside, dict):
            yield from _from_members(path, full, inside, faults)
        else:
            faults.append(f"{path}: {full}: {inside!r} is not allowed; a table [{full}] with names and values")


def _from_members(path: Path, full: str, table: dict[str, Any], faults: list[str]) -> Iterator[_Given]:
    known = set(members(named()[full.partition(".")[0]]))
    for key, value in table.items():
        if key in known:
            yield _Given(f"{full}.{key}", value, Origin("file", str(path)), f"{path}: {full}.{key}")
        else:
            faults.append(_unknown_setting(path, full, key, known))


def _from_table(path: Path, section: str, table: dict[str, Any], faults: list[str]) -> Iterator[_Given]:
    known = _settings_of(section)
    for key, value in table.items():
        if key in known:
            yield _Given(f"{section}.{key}", value, Origin("file", str(path)), f"{path}: {section}.{key}")
        else:
            faults.append(_unknown_setting(path, section, key, known))


def _settings_of(section: str) -> set[str]:
    return {name.partition(".")[2] for name in hints() if name.startswith(f"{section}.")}


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
        faults.append(f"{given.label}: {shown} is not allowed; {allowed(given.name)}")


def convert(name: str, value: object, hint: Any) -> object:
    """A value as the type of its setting. Raises ValueError, of which pydantic's ValidationError is one."""
    if isinstance(value, bool) and bool not in alternatives(hint):  # pydantic would take TOML's true for a 1
        raise ValueError(value)
    if name.endswith("bytes") and isinstance(value, str):
        value = parse_size(value)
    if typing.get_origin(bare(hint)) is tuple and isinstance(value, str):  # a variable has one text for the whole list
        value = [item.strip() for item in value.split(",")] if value.strip() else []
    return TypeAdapter(hint).validate_python(value)


def _compose(chosen: Mapping[str, object], faults: list[str]) -> Settings:
    parts: dict[str, Any] = {}
    for section, kind in typing.get_type_hints(Settings).items():
        own = {name.partition(".")[2]: value for name, value in chosen.items() if name.startswith(f"{section}.")}
        composed = (
            _composed_by_name(section, own, faults) if section in named() else _composed(section, kind, own, faults)
        )
        if composed is not None:
            parts[section] = composed
    try:
        return Settings(**parts)
    except ValueError as fault:
        faults.extend(str(fault).splitlines())
        return Settings()


def _composed_by_name(section: str, own: Mapping[str, object], faults: list[str]) -> Mapping[str, Any]:
    kind = named()[section]
    if not is_dataclass(kind):
        return own
    made = {}
    for name in dict.fromkeys(full.partition(".")[0] for full in own):
        inside = {full.partition(".")[2]: value for full, value in own.items() if full.startswith(f"{name}.")}
        made[name] = _composed(f"{section}.{name}", kind, inside, faults)
    return made


def _composed(name: str, kind: Any, own: Mapping[str, object], faults: list[str]) -> Any:
    """The values of one component; None and a fault if the component raises ValueError because they conflict."""
    try:
        return kind(**own)
    except ValueError as fault:
        faults.append(f"{name}: {fault}")
        return None
