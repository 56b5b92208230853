"""What a purge has condemned and still lies on the disk: nobody is given it from the moment of the purge on."""

from collections.abc import Callable
from dataclasses import dataclass

# Every original that is opened is judged by all of them, so of many one for everything is made.
LIMIT = 64


@dataclass(frozen=True, slots=True)
class PendingPurge:
    """On whatever of these paths was last asked for before `at`, in seconds of the epoch."""

    at: float
    matches: Callable[[str], bool]


class PendingPurges:
    """Sentences that are not carried out yet. For the event loop; threads are given a copy by `sentences`."""

    def __init__(self) -> None:
        self._sentences: list[PendingPurge] = []

    @property
    def sentences(self) -> tuple[PendingPurge, ...]:
        return tuple(self._sentences)

    def add(self, sentence: PendingPurge) -> None:
        if len(self._sentences) >= LIMIT:
            self._sentences = [PendingPurge(sentence.at, _everything)]
        else:
            self._sentences.append(sentence)

    def drop(self, sentences: tuple[PendingPurge, ...]) -> None:
        """They are carried out."""
        self._sentences = [one for one in self._sentences if one not in sentences]

    def holds(self, path: str, checked: float) -> bool:
        return holds(self._sentences, path, checked)


def holds(sentences: "tuple[PendingPurge, ...] | list[PendingPurge]", path: str, checked: float) -> bool:
    return any(checked < one.at and one.matches(path) for one in sentences)


def _everything(_: str) -> bool:
    return True
