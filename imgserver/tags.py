"""Tags: names for sets of originals that are purged together, by patterns of their paths."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

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
