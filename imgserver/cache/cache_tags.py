"""Cache groups (surrogate keys): which renditions are purged together, and the owner's tags.

A rendition belongs to the group of everything, of its source's original, of each folder above that, of its own key, and
of its tags. A group is a short digest, so that no name of a source leaks into headers or Redis. Its first letter is its
kind: `a` all, `s` original, `d` folder, `k` key, `t` tag; `o` for the cached copy of an original.

All functions take sources by their identity, not by their name (`plan.canonical.identified`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from imgserver.plan.canonical import digest, source_digest
from imgserver.plan.plan import SourceRef

ALL = "a"

# A folder below this depth is purged with its ancestor at this depth: a purge removes too much, never too little.
MAX_DEPTH = 32
MAX_TAGS_PER_RECORD = 16
# Headers name no more groups: caches need not accept more (RFC 9875), and header fields have limits.
MAX_HEADER_GROUPS = 16
# The kinds that headers name, by priority: the widest and the narrowest, tags, then folders from the top.
_HEADER_KINDS = "astd"
_GROUP = re.compile(r"a|[sdkt][0-9a-f]{16}")
_DIGITS = 16
# Of every kind of group, and of the token of its generation.
_ANY_GROUP = re.compile(r"[a-z][0-9a-f]{0,16}")
_TOKEN = re.compile(r"[\x20-\x7e]{0,64}")


def groups_of(ref: SourceRef, *, key: str | None = None, tags: Iterable[str] = ()) -> tuple[str, ...]:
    """The groups of a rendition of this original, widest first, with the first 16 tags."""
    groups = _original_groups(ref)
    if key is not None:
        groups += (key_group(key),)
    return groups + tuple(map(tag_group, tuple(tags)[:MAX_TAGS_PER_RECORD]))


def header_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """The groups that response headers name, in the given order: at most 16, without the rendition's own."""
    shared = tuple([group for group in groups if group[0] in _HEADER_KINDS])
    if len(shared) <= MAX_HEADER_GROUPS:
        return shared
    chosen = set(sorted(shared, key=lambda group: _HEADER_KINDS.index(group[0]))[:MAX_HEADER_GROUPS])
    return tuple(group for group in shared if group in chosen)


def is_group(text: str) -> bool:
    """Whether the text has the form of a group of renditions."""
    return _GROUP.fullmatch(text) is not None


def is_generation(group: object, token: object) -> bool:
    """Whether these are a group and the token of its generation, as far as their form says: text from a record or a
    message, which a stranger may have written."""
    return (
        isinstance(group, str)
        and isinstance(token, str)
        and _ANY_GROUP.fullmatch(group) is not None
        and _TOKEN.fullmatch(token) is not None
    )


def source_group(ref: SourceRef) -> str:
    """The group of all renditions of one original. The source digest of their keys begins with its digits."""
    return "s" + source_digest(ref)[:_DIGITS]


def source_digits(group: str) -> str:
    """How the source digest begins in every key of this group; "" if the keys do not show the group."""
    return group[1:] if group.startswith("s") else ""


def original_group(ref: SourceRef) -> str:
    """The group of the cached copy of an original. No rendition belongs to it. A purge of one rendition names it as
    well, so that every server revalidates the original."""
    return "o" + source_digest(ref)[:_DIGITS]


def prefix_group(source: str, prefix: str) -> str:
    """The group of all originals of a source below a folder, with or without trailing slash; "" is the whole source."""
    parts = [part for part in prefix.split("/") if part]
    return "d" + digest(source, *parts[:MAX_DEPTH])[:_DIGITS]


def key_group(key: str) -> str:
    """The group of one rendition."""
    return "k" + digest(key)[:_DIGITS]


def tag_group(tag: str) -> str:
    return "t" + digest(tag)[:_DIGITS]


def _original_groups(ref: SourceRef) -> tuple[str, ...]:
    parts = [part for part in ref.path.split("/")[:-1] if part][:MAX_DEPTH]
    directories = ("d" + digest(ref.source, *parts[:depth])[:_DIGITS] for depth in range(len(parts) + 1))
    return (ALL, *directories, source_group(ref))


# RFC 9875 expects caches to support 32 groups per response; a response has 16, for tags and folders together.
MAX_TAGS = 8


@dataclass(frozen=True, slots=True)
class Tags:
    """The owner's tags: names for sets of originals that are purged together, as (name, pattern) pairs.

    A pattern is matched with the path of an original. One that ends in a slash is a folder; `*` is any text, slashes
    included.
    """

    rules: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, table: Mapping[str, str]) -> "Tags":
        """`table`: by name, patterns separated by spaces."""
        return cls(tuple((name, pattern) for name, patterns in table.items() for pattern in patterns.split()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in self.rules))

    def of_path(self, path: str) -> tuple[str, ...]:
        """The tags of an original, in the order of the rules, MAX_TAGS at most."""
        found = dict.fromkeys(name for name, pattern in self.rules if _matches(path, pattern))
        return tuple(found)[:MAX_TAGS]


NO_TAGS = Tags()


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern)
