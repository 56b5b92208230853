"""Error messages about options: which option, the allowed values, the nearest known word, and the position."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from imgserver.errors import BadOption

# Longer values are shortened in messages, and no known word is near them.
MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class WrittenOption:
    """One option as it is written in the target. `text` is its value, decoded once; `at` the offset of its key."""

    key: str
    text: str
    raw: str
    at: int


class InvalidValue(Exception):
    """A value that an option cannot have. `allowed` describes the allowed values, if the text of the option's row is
    too general; `words` are candidates for the nearest word."""

    def __init__(self, allowed: str = "", *, words: tuple[str, ...] = ()) -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.words = words


def bad_value(option: WrittenOption, allowed: str, *, words: tuple[str, ...] = (), hint: str = "") -> BadOption:
    """The error for a value that is not allowed. `hint` ends the message if no known word is near."""
    near = nearest(option.text, words)
    # The word itself is known, so its argument is wrong.
    if near == option.text.partition(":")[0]:
        near = None
    tail = f"; nearest: {near}" if near else hint
    return _bad(
        option, f'{option.key}: "{_short(option.text)}" is not allowed; {allowed}{tail}', allowed=allowed, nearest=near
    )


def bad_rule(option: WrittenOption, sentence: str, *, allowed: str | None = None) -> BadOption:
    """The error for an allowed value that cannot be where it is, or with the other options."""
    return _bad(option, f"{option.key}: {sentence}", allowed=allowed)


def nearest(word: str, words: tuple[str, ...]) -> str | None:
    """The most similar of the known words; None if none is similar."""
    if len(word) > MAX_SHOWN:
        return None
    found = get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    return found[0] if found else None


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def _bad(option: WrittenOption, sentence: str, **facts: Any) -> BadOption:
    known = {name: fact for name, fact in facts.items() if fact is not None}
    return BadOption(sentence, argument=option.key, value=option.text, at=option.at, **known)
