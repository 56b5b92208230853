"""Requests to one origin for the origin cache: one at a time for each original, in the bounds of its queue."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from imgserver.errors import DeadlineExceeded, NotFound, SourceFailed, Unavailable
from imgserver.runtime.single_flight import SingleFlight
from imgserver.runtime.ttl_map import TtlMap, bytes_of_key
from imgserver.sources.origin import BodySink, Origin, refuse_larger
from imgserver.sources.origin_cache.download import PartialDownload
from imgserver.sources.origin_cache.fetch_queue import FetchKind, FetchQueue
from imgserver.sources.origin_cache.freshness import Freshness, freshness_of
from imgserver.sources.origin_cache.local_copies import LocalCopies
from imgserver.sources.origin_cache.metadata import OriginMetadata, state_of
from imgserver.sources.origin_cache.rejections import Rejections
from imgserver.sources.origin_cache.settings import OriginCacheSettings

# Failures of the origin, or on the way to it. A stale copy may be used meanwhile.
ORIGIN_FAILURES = (SourceFailed, DeadlineExceeded, Unavailable)
# Reasons of Unavailable for which this server is to blame.
OWN_FAILURES = frozenset({"disk", "origin_cache", "drain"})
# The validation time of a copy whose original was purged during the download: it is stale for the next request.
EXPIRED_EPOCH = 0.0

T = TypeVar("T")


class OriginFetcher:
    """Downloads originals into the local copies, revalidates copies, and requests metadata.

    It caches the responses "not found" and "failed" for a short time, and the metadata of originals without a copy. A
    purge ends all of these, and a request after the purge never joins one in flight that began before it.
    """

    def __init__(
        self,
        origin: Origin,
        copies: LocalCopies,
        queue: FetchQueue,
        settings: OriginCacheSettings,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._origin = origin
        self._copies = copies
        self._queue = queue
        self._settings = settings
        self._clock = clock
        self._flights = SingleFlight[OriginMetadata]()
        self._absent = TtlMap[str, bool](settings.negative_ttl_seconds)
        self._failed = TtlMap[str, bool](settings.retry_delay_seconds)
        # Freshness, not the map, decides how long metadata is used.
        self._metadata = TtlMap[str, OriginMetadata](math.inf, bytes_of=_bytes_of)
        # Copies that did not decode.
        self.rejections = Rejections()
        self._purges = 0
        self.fetches = self.revalidations = self.stat_requests = 0

    @property
    def coalesced(self) -> int:
        """Requests that joined one in flight."""
        return self._flights.statistics().coalesced

    async def close(self) -> None:
        """Cancels the requests in flight; their clients get Unavailable."""
        await self._flights.close()

    def is_absent(self, path: str) -> bool:
        """Whether the origin has just answered that the original does not exist."""
        return self._absent.get(path) is not None

    def has_failed(self, path: str) -> bool:
        """Whether the origin has just failed for this original."""
        return self._failed.get(path) is not None

    def metadata(self, path: str) -> OriginMetadata | None:
        """The result of the last `stat` of an original."""
        return self._metadata.get(path)

    def freshness(self, path: str, metadata: OriginMetadata | None) -> Freshness:
        """How the metadata, or the copy that it belongs to, may be used now. A copy that does not decode is fresh for a
        pause, and then never used again."""
        if metadata is None:
            return Freshness.EXPIRED
        now = self._clock()
        rejection = self.rejections.find(path, metadata)
        if rejection is not None:
            return Freshness.EXPIRED if rejection.is_due(now) else Freshness.FRESH
        return freshness_of(metadata, self._settings, now=now)

    def forget(self, path: str) -> None:
        self._purges += 1
        self.rejections.drop(path)
        self._metadata.pop(path)
        self._absent.pop(path)

    def forget_all(self) -> None:
        self._purges += 1
        self._metadata.clear()
        self._absent.clear()

    async def wait(self, kind: FetchKind, path: str) -> OriginMetadata:
        """`run` for a client, which needs a place in the queue. Raises Unavailable if there is none left."""
        with self._queue.place(kind):
            return await self.run(kind, path)

    async def run(self, kind: FetchKind, path: str) -> OriginMetadata:
        """The metadata of the original after a download, a revalidation, or a request for the metadata. Joins a request
        in flight for the same."""
        make = self._fetch if kind == "fetch" else self._stat
        metadata, _ = await self._flights.run((kind, path, self._purges), lambda: make(path))
        return metadata

    async def _fetch(self, path: str) -> OriginMetadata:
        copy = await self._copies.find(path)
        # Another request may have ended since the caller looked for the copy.
        if copy is not None and self.freshness(path, copy) is Freshness.FRESH:
            return copy
        if copy is not None and self.rejections.find(path, copy) is not None:
            copy = None  # without conditions: other bytes may have the same validators
        download = self._copies.new_download()
        try:
            return await self._download(path, copy, download)
        finally:
            await self._copies.discard(download)

    async def _download(self, path: str, copy: OriginMetadata | None, download: PartialDownload) -> OriginMetadata:
        purges, validated = self._purges, self._clock()
        known = copy.validators if copy is not None else None
        sink = self._sink(download)
        response = await self._request("fetch", path, lambda: self._origin.fetch(path, sink, known=known))
        if purges != self._purges:
            validated = EXPIRED_EPOCH
        if response is not None:
            metadata = OriginMetadata.of(self._copies.key(path), response, validated=validated)
            metadata = await self._copies.commit(download, metadata)
            self.fetches += 1
            return metadata
        if copy is None:
            raise SourceFailed("The origin answered an unconditional request with 'not modified'")
        revalidated = replace(copy, validated=validated)
        await self._copies.update(revalidated)
        self.revalidations += 1
        return revalidated

    def _sink(self, download: PartialDownload) -> BodySink:
        async def sink(chunk: bytes) -> None:
            refuse_larger(download.length + len(chunk), self._settings.item_bytes)
            await self._copies.append(download, chunk)

        return sink

    async def _stat(self, path: str) -> OriginMetadata:
        validated = self._clock()
        response = await self._request("stat", path, lambda: self._origin.stat(path))
        if state_of(response.validators) is None:
            # Only the digest of the bytes tells two states of this original apart.
            return await self.run("fetch", path)
        metadata = OriginMetadata.of(self._copies.key(path), response, validated=validated)
        self.stat_requests += 1
        self._metadata.put(path, metadata)
        return metadata

    async def _request(self, kind: FetchKind, path: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            response = await self._queue.run(kind, work)
        except NotFound:
            self._absent.put(path, True)
            self._metadata.pop(path)
            await self._copies.remove(path)
            raise
        except ORIGIN_FAILURES as error:
            if error.facts.get("reason") not in OWN_FAILURES:
                self._failed.put(path, True)
            raise
        self._failed.pop(path)
        return response


def _bytes_of(path: str, metadata: OriginMetadata) -> int:
    return bytes_of_key(path) + bytes_of_key(metadata.key) + bytes_of_key(metadata.validators.etag or "")
