"""Copies that did not decode: each is downloaded again, after a pause that grows."""

from dataclasses import dataclass

from imgserver.runtime.ttl_map import BoundedMap
from imgserver.sources.origin_cache.metadata import OriginMetadata
from imgserver.sources.undecodable import YOUNG_SECONDS, unfinished

# The pause doubles with each download of an original that still does not decode.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
MAX_ENTRIES = 1024


@dataclass(frozen=True, slots=True)
class Rejection:
    """The bytes with `digest` do not decode, known since `since`. They are downloaded again at `until`, both in seconds
    of the epoch. `complete`: their origin stated where they end."""

    digest: str
    since: float
    until: float
    pause_seconds: float
    complete: bool

    def is_due(self, now: float) -> bool:
        """Also true when the clock has been set back."""
        return not self.until - self.pause_seconds <= now < self.until

    def age_seconds(self, now: float) -> float:
        return max(0.0, now - self.since)

    def is_unfinished(self, now: float) -> bool:
        """Whether the download may have been cut. The same bytes again and again are what the origin has."""
        return not self.complete and self.age_seconds(now) < YOUNG_SECONDS


class Rejections:
    """By path, bounded: the entry that changed least recently is forgotten first."""

    def __init__(self) -> None:
        self._entries = BoundedMap[str, Rejection](MAX_ENTRIES)

    def find(self, path: str, copy: OriginMetadata) -> Rejection | None:
        """The rejection of these very bytes. None for metadata without a body."""
        entry = self._entries.get(path)
        if entry is None or copy.body is None or entry.digest != copy.body.digest:
            return None
        return entry

    def add(self, path: str, copy: OriginMetadata, *, now: float) -> Rejection:
        """Called when a copy did not decode. Failures of other renditions of the same copy do not prolong the pause."""
        assert copy.body is not None
        entry, digest = self._entries.get(path), copy.body.digest
        if entry is None:
            entry = Rejection(digest, now, now + FIRST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS, copy.complete)
        elif entry.digest != digest or entry.is_due(now):
            pause = min(2 * entry.pause_seconds, LONGEST_PAUSE_SECONDS)
            since = entry.since if entry.digest == digest else now
            entry = Rejection(digest, since, now + pause, pause, copy.complete)
        self._entries.put(path, entry)
        return entry

    def refuse_unfinished(self, path: str, copy: OriginMetadata, *, now: float) -> None:
        """Raises Unavailable for rejected bytes that may have been cut."""
        entry = self.find(path, copy)
        if entry is not None and entry.is_unfinished(now):
            raise unfinished(entry.until - now)

    def drop(self, path: str) -> None:
        """Called when a copy did decode, and for a purge."""
        self._entries.pop(path)
