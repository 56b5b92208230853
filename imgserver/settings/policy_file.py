"""Reads the security policy from YAML, without YAML's implicit types: a scalar is text until its field gives it a type.

So `no` stays a word, and 1:30 is not a number in base sixty. Tags, duplicate names and aliases are refused; aliases can
expand a small file without bound.
"""

import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import ValidationError

from imgserver.errors import ImgserverError
from imgserver.security.networks import parse_network
from imgserver.security.policy import Policy
from imgserver.settings.convert import convert
from imgserver.settings.describe import takes
from imgserver.settings.loader import nearest

BYTES_LIMIT = 4 << 20
# libyaml builds its tree by unbounded recursion: a long line of brackets would crash the process.
DEPTH_LIMIT = 16
NETWORKS = "a network such as 192.0.2.0/24 or 2001:db8::/32, or one address"

# libyaml where the wheel has it: a policy with ten thousand networks must not hold the interpreter lock for long.
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


class BadPolicy(ImgserverError):
    """All errors of one file; facts: faults, a tuple of sentences."""

    code: ClassVar[str] = "bad-policy"
    title: ClassVar[str] = "The policy is wrong"


def load(path: Path) -> Policy:
    """Reads and validates the file; blocks. Raises BadPolicy with all errors together."""
    faults: list[str] = []
    try:
        text = _read(path)
        _refuse_depth(text)
        node = yaml.compose(text, Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError) as fault:
        faults.append(f"{path}: {_reason(fault)}")
        node = None
    policy = _Reader(path, faults).section("", node, Policy)
    if faults:
        raise BadPolicy("\n".join(faults), faults=tuple(faults))
    return replace(typing.cast(Policy, policy), digest=sha256(text).hexdigest()[:12])


def values(policy: Policy) -> dict[str, object]:
    """Every value of the policy by its dotted name, such as `rates.pictures.burst`."""
    return dict(_leaves("", policy))


def format_value(value: object) -> str:
    """A value as its owner would write it; an unset one is empty."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, object]]:
    for row in fields(value):
        inner, dotted = getattr(value, row.name), f"{name}.{row.name}".lstrip(".")
        if is_dataclass(inner):
            yield from _leaves(dotted, inner)
        elif dotted != "digest":
            yield dotted, inner


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(BYTES_LIMIT + 1)
    if len(text) > BYTES_LIMIT:
        raise ValueError(f"larger than {BYTES_LIMIT} bytes")
    return text


def _refuse_depth(text: bytes) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            raise ValueError(f"nested more than {DEPTH_LIMIT} deep")


def _reason(fault: Exception) -> str:
    if isinstance(fault, OSError):
        return f"cannot be read: {fault.strerror}"
    return f"not valid YAML: {' '.join(str(fault).split())}"


class _Reader:
    """Turns the nodes of a document into values. An invalid one adds a fault, and its value keeps the default."""

    def __init__(self, path: Path, faults: list[str]) -> None:
        self._path = path
        self._faults = faults
        self._seen: set[int] = set()

    def section(self, name: str, node: yaml.Node | None, kind: Any) -> object:
        found = {}
        hints = typing.get_type_hints(kind, include_extras=True)
        for key, inner in self._pairs(name, node, set(hints) - {"digest"}):
            dotted, hint = f"{name}.{key}".lstrip("."), hints[key]
            read = self.section(dotted, inner, hint) if is_dataclass(hint) else self._value(dotted, inner, hint)
            if read is not None:
                found[key] = read
        try:
            return kind(**found)
        except ValueError as fault:  # values that conflict with each other
            self._fault(node, f"{name}: {fault}")
            return kind()

    def _pairs(self, name: str, node: yaml.Node | None, known: set[str]) -> Iterator[tuple[str, yaml.Node]]:
        if node is None or _is_empty(node):
            return
        if not self._is_plain(node) or not isinstance(node, yaml.MappingNode):
            self._fault(node, f"{name or 'the document'}: must be a mapping of names to values")
            return
        seen: set[str] = set()
        for key, inner in node.value:
            word, before = str(key.value), f"{name}." if name else ""
            if word not in known:
                self._fault(key, f"no entry {before}{word}{nearest(word, known, before=before)}")
            elif word in seen:
                self._fault(key, f"{before}{word} is given twice")
            else:
                seen.add(word)
                yield word, inner

    def _value(self, name: str, node: yaml.Node, hint: Any) -> object:
        """None for an empty or invalid node."""
        if not self._is_plain(node) or _is_empty(node):
            return None
        if typing.get_origin(hint) is tuple:
            return self._items(name, node, typing.get_args(hint)[0])
        if not isinstance(node, yaml.ScalarNode):
            self._fault(node, f"{name}: must be one value; {takes(name, _given_type(hint))}")
            return None
        return self._scalar(name, node, _given_type(hint))

    def _items(self, name: str, node: yaml.Node, kind: Any) -> object:
        if not isinstance(node, yaml.SequenceNode):
            self._fault(node, f"{name}: must be a list")
            return None
        plain = [item for item in node.value if self._is_plain(item)]
        read = [self._scalar(name, item, kind) for item in plain]
        return tuple(dict.fromkeys(item for item in read if item is not None))

    def _scalar(self, name: str, node: yaml.Node, hint: Any) -> object:
        is_network = isinstance(hint, types.UnionType)
        try:
            return parse_network(node.value) if is_network else convert(name, node.value, hint)
        except (ValidationError, ValueError, TypeError, AttributeError):
            allowed = NETWORKS if is_network else takes(name, hint)
            self._fault(node, f'{name}: "{_text(node)}" is not allowed; {allowed}')
            return None

    def _is_plain(self, node: yaml.Node) -> bool:
        if id(node) in self._seen:
            self._fault(node, "aliases are not allowed; repeat the value")
            return False
        self._seen.add(id(node))
        if node.tag not in _TAGS:
            self._fault(node, f"the tag {node.tag} is not allowed")
            return False
        return True

    def _fault(self, node: yaml.Node | None, sentence: str) -> None:
        line = f":{node.start_mark.line + 1}" if node is not None and node.start_mark else ""
        self._faults.append(f"{self._path}{line}: {sentence}")


def _given_type(hint: Any) -> Any:
    """The type of a value that is given, if the hint also allows None."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == "" and not node.style


def _text(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "…"
