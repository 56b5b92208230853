"""Settings in words, for people: sizes with a unit, and the values that a setting allows."""

import re
import types
import typing
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, Literal

from annotated_types import Ge, GroupedMetadata, Gt, Le

from imgserver.settings.names import bare, hint_of

# pydantic's ByteSize would accept "3 MB or so": it reads the beginning and drops the rest.
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """The bytes of `4096`, `64MiB` (powers of 1024), `1.5 GB` or `512k` (powers of 1000). Raises ValueError."""
    found = _SIZE.fullmatch(text.strip().replace("_", ""))
    if not found:
        raise ValueError(f"not a size: {text}")
    number, prefix, binary = found.groups()
    count = float(number) * (1024 if binary else 1000) ** " kmgt".index((prefix or " ").lower())
    if count == inf:
        raise ValueError(f"not a size: {text}")
    return int(count)


def format_size(count: int) -> str:
    """The shortest exact text: 67108864 -> `64MiB`."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{unit}"
    return str(count)


def format_value(name: str, value: object) -> str:
    """A value as its owner would write it, without quotes; a size has its unit, and a path that is not set is empty."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if value == Path() and not name.endswith(".root"):
        return ""
    return format_size(value) if name.endswith("bytes") and isinstance(value, int) else str(value)


def allowed(name: str) -> str:
    """The values that a setting allows: `a whole number 0-65535`."""
    return takes(name, hint_of(name))


def takes(name: str, hint: Any) -> str:
    """The values that a type allows; `name` ends in `bytes` for a size."""
    if typing.get_origin(bare(hint)) is tuple:
        return f"a list, each {_allowed(typing.get_args(bare(hint))[0], str)}; in a variable separated by commas"
    size = name.endswith("bytes")
    return _allowed(hint, format_size if size else str) + (', in bytes or as text like "64MiB"' if size else "")


def _allowed(hint: Any, write: Callable[[Any], str]) -> str:
    words = " or ".join(_word(kind) for kind in alternatives(hint))
    return words + _range(getattr(hint, "__metadata__", ()), write)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union without its annotations; any other type is its only member."""
    kind = bare(hint)
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def _word(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    return "nothing" if kind is type(None) else _WORDS.get(kind, str(kind))


def _range(metadata: tuple[Any, ...], write: Callable[[Any], str]) -> str:
    low, above, high = _bound(metadata, Ge), _bound(metadata, Gt), _bound(metadata, Le)
    if low is not None and high is not None:
        return f" {write(low)}-{write(high)}"
    words = (("above", above), ("from", low), ("up to", high))
    return "".join(f" {word} {write(bound)}" for word, bound in words if bound is not None)


def _bound(metadata: tuple[Any, ...], kind: type[Ge | Gt | Le]) -> Any:
    """The bound of this kind, also one within an Interval; None without one."""
    rules = [rule for part in metadata for rule in (part if isinstance(part, GroupedMetadata) else (part,))]
    return next((getattr(rule, kind.__name__.lower()) for rule in rules if isinstance(rule, kind)), None)
