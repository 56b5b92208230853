"""Values as files, variables and options give them, converted to the types of their settings."""

import typing
from typing import Any, Literal

from pydantic import TypeAdapter

from imgserver.settings.describe import alternatives, parse_size
from imgserver.settings.names import bare

# What the words `on` and `off` may also be: what pydantic takes for true and false.
_TRUTH = {"on": ("true", "yes", "y", "t", "1"), "off": ("false", "no", "n", "f", "0")}


def convert(name: str, value: object, hint: Any) -> object:
    """A value as the type of its setting. Raises ValueError, of which pydantic's ValidationError is one."""
    if isinstance(value, bool) and bool not in alternatives(hint) and not _is_switch(hint):
        raise ValueError(value)  # pydantic would take TOML's true for a 1
    if name.endswith("bytes") and isinstance(value, str):
        value = parse_size(value)
    if typing.get_origin(bare(hint)) is tuple and isinstance(value, str):  # a variable has one text for the whole list
        value = [item.strip() for item in value.split(",")] if value.strip() else []
    if typing.get_origin(bare(hint)) is Literal:
        value = _word_of(value, typing.get_args(bare(hint)))
    elif isinstance(value, str) and bare(hint) is bool:
        value = value.strip()
    return TypeAdapter(hint).validate_python(value)


def _word_of(value: object, words: tuple[str, ...]) -> object:
    """The word of a setting that takes a few words: in any case, and a truth value for `on` and `off`."""
    text = str(value).strip().lower()
    aliases = {name: word for word, names in _TRUTH.items() if word in words for name in names}
    return (aliases | {word.lower(): word for word in words}).get(text, value)


def _is_switch(hint: Any) -> bool:
    """Whether the setting takes `on` or `off` among other words."""
    return typing.get_origin(bare(hint)) is Literal and not _TRUTH.keys().isdisjoint(typing.get_args(bare(hint)))
