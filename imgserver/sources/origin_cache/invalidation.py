"""Purges whose originals are still on the disk. From the moment of the purge no request gets them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Every copy that is found is compared with all pending purges. Beyond this number, one purge of everything replaces
# them.
MAX_PENDING = 64


@dataclass(frozen=True, slots=True)
class PendingPurge:
    """Applies to copies of matching paths that were validated before `time`, in seconds of the epoch."""

    time: float
    matches: Callable[[str], bool]


class PendingPurges:
    """For the event loop. Threads get a copy by `snapshot`."""

    def __init__(self) -> None:
        self._purges: list[PendingPurge] = []

    def snapshot(self) -> tuple[PendingPurge, ...]:
        return tuple(self._purges)

    def add(self, purge: PendingPurge) -> None:
        if len(self._purges) >= MAX_PENDING:
            self._purges = [PendingPurge(purge.time, _everything)]
        else:
            self._purges.append(purge)

    def remove(self, purges: Sequence[PendingPurge]) -> None:
        """Called when the copies of these purges are deleted."""
        self._purges = [purge for purge in self._purges if purge not in purges]

    def match(self, path: str, validated: float) -> bool:
        return is_purged(self._purges, path, validated)


def is_purged(purges: Sequence[PendingPurge], path: str, validated: float) -> bool:
    """Whether one of the purges applies to a copy of this path."""
    return any(validated < purge.time and purge.matches(path) for purge in purges)


def _everything(_: str) -> bool:
    return True
