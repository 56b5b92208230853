"""How a wrong option is told: which, what it may be, what is near it, and where it stands."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from imgserver.errors import BadOption

# Values longer than this are cut in sentences, and near nothing.
LONGEST = 60


@dataclass(frozen=True, slots=True)
class Written:
    """One option as it stands in the target: `text` is its value, decoded once; `at` the offset of its key."""

    key: str
    text: str
    raw: str
    at: int


class Misread(Exception):
    """A value no row can read. `allowed` is what would do, when the row's own words are too wide for the case."""

    def __init__(self, allowed: str = "", *, words: tuple[str, ...] = ()) -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.words = words


def bad_value(option: Written, allowed: str, *, words: tuple[str, ...] = (), hint: str = "") -> BadOption:
    near = nearest(option.text, words)
    # The word itself is known: what is wrong is its argument.
    if near == option.text.partition(":")[0]:
        near = None
    tail = f"; nearest: {near}" if near else hint
    return _bad(
        option, f'{option.key}: "{_short(option.text)}" is not allowed; {allowed}{tail}', allowed=allowed, nearest=near
    )


def bad_rule(option: Written, sentence: str, *, allowed: str | None = None) -> BadOption:
    """A well-formed option that cannot stand where it does."""
    return _bad(option, f"{option.key}: {sentence}", allowed=allowed)


def nearest(word: str, words: tuple[str, ...]) -> str | None:
    if len(word) > LONGEST:
        return None
    found = get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    return found[0] if found else None


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _bad(option: Written, sentence: str, **facts: Any) -> BadOption:
    known = {name: fact for name, fact in facts.items() if fact is not None}
    return BadOption(sentence, argument=option.key, value=option.text, at=option.at, **known)
