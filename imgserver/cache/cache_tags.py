"""Groups: what can be purged together. Short digests, so that no name of a source leaks into headers or Redis.

Every record belongs to everything, its source's original, each directory above that, its own key, and its tags. The
first letter tells the kind: `a`, `s`, `d`, `k`, `t`. Of an original that is kept itself there is `o`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import sha256

from imgserver.plan.canonical import source_digest
from imgserver.plan.plan import SourceRef

ALL = "a"

# Directories below this depth are purged with their ancestor of this depth: too much goes, never too little.
DEPTH_LIMIT = 32
TAGS_PER_RECORD = 16
# More are not told to others: caches need not take them (RFC 9875), and header fields have limits.
TOLD_LIMIT = 16
# What is told when there are too many: the widest and the narrowest, tags, then folders from the top.
_TOLD_FIRST = "astd"
_GROUP = re.compile(r"a|[sdkt][0-9a-f]{16}")
_DIGITS = 16


def groups_of(ref: SourceRef, *, key: str | None = None, tags: Iterable[str] = ()) -> tuple[str, ...]:
    """The groups of a rendition of this original, widest first; at most 16 tags count."""
    groups = _original_groups(ref)
    if key is not None:
        groups += (key_group(key),)
    return groups + tuple(tag_group(tag) for tag in tuple(tags)[:TAGS_PER_RECORD])


def told(groups: Iterable[str]) -> tuple[str, ...]:
    """Those that header fields name, in their order: not the picture's own, and at most 16."""
    shared = [group for group in groups if group[0] in _TOLD_FIRST]
    chosen = set(sorted(shared, key=lambda group: _TOLD_FIRST.index(group[0]))[:TOLD_LIMIT])
    return tuple(group for group in shared if group in chosen)


def is_group(text: str) -> bool:
    """Whether it is spelt like a group."""
    return _GROUP.fullmatch(text) is not None


def source_group(ref: SourceRef) -> str:
    """All renditions of one original; its digits begin the source digest of their keys."""
    return "s" + source_digest(ref)[:_DIGITS]


def source_digits(group: str) -> str:
    """What the source digest begins with in the keys of this group; "" where keys do not tell it."""
    return group[1:] if group.startswith("s") else ""


def original_group(ref: SourceRef) -> str:
    """What is kept of the original itself. No rendition has it: whoever purges one picture has its original looked at
    again, at every server."""
    return "o" + source_digest(ref)[:_DIGITS]


def prefix_group(source: str, prefix: str) -> str:
    """All originals of a source below a directory, with or without a slash at its end; "" is the whole source."""
    parts = [part for part in prefix.split("/") if part]
    return _digest("d", source, *parts[:DEPTH_LIMIT])


def key_group(key: str) -> str:
    """One rendition."""
    return _digest("k", key)


def tag_group(tag: str) -> str:
    return _digest("t", tag)


@lru_cache(maxsize=4096)
def _original_groups(ref: SourceRef) -> tuple[str, ...]:
    parts = [part for part in ref.path.split("/")[:-1] if part][:DEPTH_LIMIT]
    directories = (_digest("d", ref.source, *parts[:depth]) for depth in range(len(parts) + 1))
    return (ALL, *directories, source_group(ref))


def _digest(kind: str, *texts: str) -> str:
    """Length-prefixed, so that no two lists of names run together."""
    hasher = sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(4, "big") + data)
    return kind + hasher.hexdigest()[:_DIGITS]


# Tags: names for sets of originals that are purged together, by patterns of their paths.

# RFC 9875 asks caches for 32 groups per answer; ours shares 16 between tags and folders.
TAGS_LIMIT = 8


@dataclass(frozen=True, slots=True)
class Tags:
    """(name, pattern) pairs. A pattern that ends in a slash is a folder, `*` is any text, slashes included."""

    rules: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, table: Mapping[str, str]) -> "Tags":
        """`table` has the patterns of each name, parted by blanks."""
        return cls(tuple((name, pattern) for name, patterns in table.items() for pattern in patterns.split()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in self.rules))

    def of_path(self, path: str) -> tuple[str, ...]:
        """The tags of an original, in the order of the rules; the first TAGS_LIMIT count."""
        return _tags(self.rules, path) if self.rules else ()


NO_TAGS = Tags()


# Pictures come in many sizes: their originals' paths are matched once.
@lru_cache(maxsize=4096)
def _tags(rules: tuple[tuple[str, str], ...], path: str) -> tuple[str, ...]:
    found = dict.fromkeys(name for name, pattern in rules if _matches(path, pattern))
    return tuple(found)[:TAGS_LIMIT]


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern)
