"""Names of settings: dotted (`server.port`), as environment variables, and the type and meaning behind each name.

Some sections are tables with names of the owner's choice: `[sources.NAME]` with settings in each table, `[tags]` with
one text for each name. In a pattern an asterisk stands for such a name: `sources.*.root`, `tags.*`.
"""

import re
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from annotated_types import DocInfo

from imgserver.settings.schema import Settings

PREFIX = "IMGSERVER_"
# Names of the owner's choice. A variable has underscores instead of the dashes.
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
NAME_RULE = "a name is a small letter, then up to 31 small letters, digits and dashes"
# Settings whose values are never printed.
SECRETS = frozenset({"admin.key", "redis.url", "signing.keys", "source.headers", "sources.*.headers"})


@cache
def hints() -> Mapping[str, Any]:
    """The annotated type of every setting by its dotted name, in order of definition."""
    return {
        f"{section}.{name}": hint
        for section, kind in _sections().items()
        if section not in named()
        for name, hint in members(bare(kind)).items()
    }


@cache
def patterns() -> Mapping[str, Any]:
    """The annotated type of every setting in the tables with names of the owner's choice, by its pattern."""
    return {
        f"{section}.*{'.' * bool(name)}{name}": hint
        for section, kind in named().items()
        for name, hint in members(kind).items()
    }


def pattern_of(name: str) -> str:
    """`sources.cdn.root` -> `sources.*.root`; any other name unchanged."""
    section, _, rest = name.partition(".")
    if section not in named():
        return name
    return f"{section}.*" + "".join(rest.partition(".")[1:])


@cache
def named() -> Mapping[str, Any]:
    """Sections that are tables with names of the owner's choice, with the type of one value."""
    kinds = {section: bare(kind) for section, kind in _sections().items()}
    return {section: typing.get_args(kind)[1] for section, kind in kinds.items() if typing.get_origin(kind) is Mapping}


def members(kind: Any) -> Mapping[str, Any]:
    """The annotated types of the settings of a section or table by name; a plain value is its only member, named ""."""
    return typing.get_type_hints(kind, include_extras=True) if is_dataclass(kind) else {"": kind}


def hint_of(name: str) -> Any:
    """The annotated type of one setting."""
    return {**hints(), **patterns()}[pattern_of(name)]


def meaning_of(name: str) -> str:
    """What a setting is for, in one line: the `doc` in its field's type."""
    return _documentation(hint_of(name))


def section_meaning(section: str) -> str:
    """What a section is for, in one line."""
    return _documentation(_sections()[section])


def bare(hint: Any) -> Any:
    """A type without its annotations."""
    return hint.__origin__ if hasattr(hint, "__metadata__") else hint


@cache
def _sections() -> Mapping[str, Any]:
    return typing.get_type_hints(Settings, include_extras=True)


def _documentation(hint: Any) -> str:
    found = [part.documentation for part in getattr(hint, "__metadata__", ()) if isinstance(part, DocInfo)]
    return "".join(found)


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
