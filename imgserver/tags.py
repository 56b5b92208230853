"""Tags: names for sets of originals that are purged together, by rules over their paths."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

# RFC 9875 asks caches for 32 groups per answer; ours shares 16 between tags and folders.
TAGS_LIMIT = 8
_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class TagSettings:
    """`rules`: each `name=pattern`. A pattern that ends in a slash is a folder, `*` is any text, slashes included.

    Rules and not a table of names, so that a variable can hold them like every other setting.
    """

    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for rule in self.rules:
            name, _, pattern = rule.partition("=")
            if not name or not pattern or len(name) > _NAME_CHARACTERS or not name.isprintable():
                raise ValueError(f"tags.rules: {rule!r} is not name=pattern")


@dataclass(frozen=True, slots=True)
class Tags:
    """The rules, read: (name, pattern) pairs."""

    rules: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, settings: TagSettings) -> "Tags":
        parted = (rule.partition("=") for rule in settings.rules)
        return cls(tuple((name, pattern) for name, _, pattern in parted))

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
