"""A TOML file, and where its names stand, for error messages: `tomllib` tells the values only."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_NAME = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_TABLE = re.compile(rf"([ \t]*\[\[?[ \t]*)({_NAME})[ \t]*\]")
_KEY = re.compile(rf"([ \t]*)({_NAME})[ \t]*=")
_PARTS = re.compile(_PART)

# The end of a message of `tomllib`.
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class TomlFile:
    """The tables of a file, and the positions of their names."""

    path: Path
    tables: Mapping[str, Any]
    positions: "TomlPositions"

    @classmethod
    def read(cls, path: Path, faults: list[str]) -> "TomlFile":
        text = ""
        tables: dict[str, Any] = {}
        try:
            text = path.read_text("utf-8")
            tables = tomllib.loads(text)
        except OSError as fault:
            faults.append(f"{path}: cannot be read: {fault.strerror}")
        except ValueError as fault:  # broken TOML, or not UTF-8
            message, position = _without_position(str(fault), text)
            faults.append(f"{path}{position}: not valid TOML: {message}")
        return cls(path, tables, TomlPositions(text))

    def where(self, name: str) -> str:
        """`imgserver.toml:3:1`, or the file alone for a name that it does not have."""
        found = self.positions.of(name)
        return f"{self.path}:{found[0]}:{found[1]}" if found else str(self.path)


def _without_position(message: str, text: str) -> tuple[str, str]:
    """A message of `tomllib` and the position at its end as `:line:column`."""
    found = _POSITION.search(message)
    if found is None:
        return message, ""
    lines = text.split("\n")
    line, column = (found[1], found[2]) if found[1] else (str(len(lines)), str(len(lines[-1]) + 1))
    return message[: found.start()], f":{line}:{column}"


class TomlPositions:
    """The line and the column, both from 1, of the dotted names of a valid TOML text."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")

    def of(self, name: str) -> tuple[int, int] | None:
        """The position of a name; that of the table around it if the name is in an inline table; None if there is
        neither."""
        parts = name.split(".")
        names = (tuple(parts[:count]) for count in range(len(parts), 0, -1))
        return next((self._found[one] for one in names if one in self._found), None)

    @cached_property
    def _found(self) -> dict[tuple[str, ...], tuple[int, int]]:
        """The first position of every table and key. It is needed only when there is an error."""
        found: dict[tuple[str, ...], tuple[int, int]] = {}
        table: tuple[str, ...] = ()
        begun = 0
        for number, line in enumerate(self._lines):
            match = _TABLE.match(line) or _KEY.match(line)
            # A line within a text or a list of several lines looks like a key or a table too.
            if match is None or not _is_document("\n".join(self._lines[begun:number])):
                continue
            begun = number
            name = _split(match[2]) if match.re is _TABLE else table + _split(match[2])
            table = name if match.re is _TABLE else table
            found.setdefault(name, (number + 1, len(match[1]) + 1))
        return found


def _is_document(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


def _split(name: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PARTS.findall(name))
