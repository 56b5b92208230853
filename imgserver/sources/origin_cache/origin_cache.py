"""The spool: originals of an origin, downloaded once and kept on disk, so that all sizes come from one download.

An original is fresh for as long as its origin says (within the settings). After that it is of use for a while, and
asked for anew behind whoever uses it; then it is asked for first, and used only if the origin fails. Whatever is kept
is asked for on condition that it has changed.

The fingerprint is made of the validators, so that a look at the origin gives the text that the download gave. Of an
origin that gives none it is the digest of the bytes; a look cannot tell that, so there a look downloads.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from imgserver.errors import (
    DeadlineExceeded,
    ImageOverLimit,
    NotFound,
    SourceDenied,
    SourceFailed,
    Unavailable,
)
from imgserver.plan.rendition import Fingerprint, Original
from imgserver.runtime.background import BackgroundRefresh, OnTaskFailure, log_task_failure
from imgserver.runtime.files import read_head, worker_path
from imgserver.runtime.single_flight import SingleFlight
from imgserver.runtime.threads import ThreadPool
from imgserver.runtime.ttl_map import TtlMap
from imgserver.sources import Listed, Writable
from imgserver.sources.config import FetchSettings, OriginCacheSettings, OriginCacheStatistics
from imgserver.sources.origin import BodySink, Origin
from imgserver.sources.origin_cache.download import PartialDownload
from imgserver.sources.origin_cache.fetch_queue import FetchEvent, FetchKind, FetchQueue
from imgserver.sources.origin_cache.invalidation import PendingPurge, PendingPurges, holds
from imgserver.sources.origin_cache.metadata import Freshness, OriginMetadata, age_of, learnt, state_of
from imgserver.sources.origin_cache.store import OriginStore

THREADS = 4
# An original may be put out or replaced between the look at its facts and the opening of its bytes.
ATTEMPTS = 3
WARNING_SECONDS = 60.0
# How long close() waits for what was coming to be removed.
SETTLE_SECONDS = 2.0
# When a forgotten original was checked: whoever asked for it before has it, and who comes after asks the origin.
LONG_AGO = 0.0

# The origin, or the way to it, has failed; what is kept may serve meanwhile.
_TROUBLE = (SourceFailed, DeadlineExceeded, Unavailable)
# Reasons of Unavailable for which the origin is not to blame.
_OURS = frozenset({"disk", "spool", "drain"})

T = TypeVar("T")

log = logging.getLogger(__name__)


def unobserved(_: FetchEvent) -> None:
    """For a spool that nobody watches."""


class OriginCache:
    """A `Source` in front of one `Origin`, which it closes with itself. Use from one event loop.

    `identity` tells the origin from another that may have used the same folder before, and is part of every key;
    `clock` is wall time, which survives a restart.
    """

    def __init__(
        self,
        origin: Origin,
        settings: OriginCacheSettings,
        *,
        name: str = "",
        identity: str = "",
        timeout_seconds: float = FetchSettings().total_timeout_seconds,
        observe: Callable[[FetchEvent], None] = unobserved,
        on_task_failure: OnTaskFailure = log_task_failure,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._origin = origin
        self._settings = settings
        self._lifetimes = settings.lifetimes
        self._name = name
        self._retry_delay_seconds = max(1, round(settings.retry_delay_seconds))
        self._prefix = f"{identity or name}\n"
        self._clock = clock
        self._stock = OriginStore(settings.path, limit_bytes=settings.limit_bytes)
        self._threads = ThreadPool(THREADS, "origin-cache")
        self._walker = ThreadPool(1, "origin-cache-walk")
        self._flights = SingleFlight[OriginMetadata]()
        self._background = BackgroundRefresh(on_failure=on_task_failure)
        self._queue = FetchQueue(
            name,
            at_once=settings.max_concurrent,
            room=settings.max_waiting,
            seconds=timeout_seconds,
            observe=observe,
        )
        self._absent = TtlMap[str, bool](settings.negative_ttl_seconds)
        self._troubled = TtlMap[str, bool](settings.retry_delay_seconds)
        self._looked = TtlMap[str, OriginMetadata](math.inf)
        self._condemned = PendingPurges()
        self._forgotten = 0
        self._hits = self._fetches = self._revalidations = self._stats = 0
        self._warned = -math.inf

    def __repr__(self) -> str:
        kept = f"{self._stock.entries} kept, {self._stock.size_bytes}/{self._settings.limit_bytes} bytes"
        return f"<OriginCache {self._name or 'unnamed'}: {kept}, {self._queue}>"

    async def start(self) -> None:
        """Clears what was coming when the last server ended, and begins to count what is kept. Errors are logged: a
        folder that cannot be had makes every download fail, and may come back."""
        try:
            await self._threads.run(self._stock.start)
        except OSError as error:
            self._warn(error)
        self._walk = asyncio.ensure_future(self._walker.run(self._stock.scan))

    async def scanned(self) -> None:
        await asyncio.shield(self._walk)

    async def close(self) -> None:
        await self._background.close()
        await self._flights.close()
        await self._origin.close()
        await self._threads.drain(SETTLE_SECONDS)
        self._stock.stop()
        self._threads.close()
        self._walker.close()

    @asynccontextmanager
    async def open(self, path: str) -> AsyncIterator[Original]:
        """As in `Source`; also SourceDenied, SourceFailed, DeadlineExceeded and ImageOverLimit."""
        with self._stock.pin(self._key(path)):
            facts, descriptor, head = await self._opened(path)
            try:
                yield self._original(facts, descriptor, head)
            finally:
                os.close(descriptor)

    async def fingerprint(self, path: str) -> Fingerprint:
        """Never waits for the origin while what is known of the original is fresh or of use."""
        kept = await self._kept(path)
        if kept is not None:
            return (await self._current(path, kept, "fetch")).fingerprint
        return (await self._current(path, self._looked.get(path), "stat")).fingerprint

    async def fetch(self, path: str) -> None:
        """Returns when `open` need not wait for the origin."""
        await self._current(path, await self._kept(path), "fetch")

    async def store(self, path: str, body: bytes, *, replace: bool = False) -> None:
        """As in `Writable`; SourceDenied where the origin is not."""
        if not isinstance(self._origin, Writable):
            raise SourceDenied("This source is only read")
        await self._origin.store(path, body, replace=replace)
        await self.forget(path)

    async def pictures(self, limit: int) -> list[str]:
        """As in `Listed`; none where the origin is not."""
        return await self._origin.pictures(limit) if isinstance(self._origin, Listed) else []

    async def forget(self, path: str) -> None:
        """For a purge: the original is downloaded again, whatever its origin said of its age."""
        self._forgotten += 1
        self._looked.pop(path)
        self._absent.pop(path)
        await self._in_thread(lambda: self._stock.remove(self._key(path)))

    def condemn(self, matches: Callable[[str], bool]) -> None:
        """The same for every path that matches, and at once: what is kept of them counts as absent from now on. It is
        on the disk until the next `sweep`."""
        self._forgotten += 1
        self._looked.clear()
        self._absent.clear()
        self._condemned.add(PendingPurge(self._clock(), matches))

    async def sweep(self) -> None:
        """Removes what is condemned; reads the facts of all that is kept."""
        sentences, prefix = self._condemned.sentences, self._prefix

        def is_condemned(facts: OriginMetadata) -> bool:
            return facts.key.startswith(prefix) and holds(sentences, facts.key.removeprefix(prefix), facts.checked)

        await self._walker.run(lambda: self._stock.sweep(is_condemned))
        self._condemned.drop(sentences)

    def statistics(self) -> OriginCacheStatistics:
        return OriginCacheStatistics(
            entries=self._stock.entries,
            bytes=self._stock.size_bytes,
            limit_bytes=self._settings.limit_bytes,
            hits=self._hits,
            fetches=self._fetches,
            revalidations=self._revalidations,
            stat_requests=self._stats,
            coalesced=self._flights.statistics().coalesced,
            failures=self._queue.failures,
            refused=self._queue.refused,
            waiting=self._queue.waiting,
            fetching=self._queue.fetching,
            evictions=self._stock.evictions,
            corrupt=self._stock.corrupt,
        )

    # What is known, and whether it will do

    async def _opened(self, path: str) -> tuple[OriginMetadata, int, bytes]:
        for attempt in range(ATTEMPTS):
            kept = await self._kept(path)
            facts = await self._current(path, kept, "fetch")
            self._hits += attempt == 0 and facts is kept
            opened = await self._in_thread(partial(self._open, facts), undo=_close)
            if opened is not None:
                return facts, *opened
        raise Unavailable("The spool lost the original", reason="spool", retry_after=1)

    async def _current(self, path: str, known: OriginMetadata | None, question: FetchKind) -> OriginMetadata:
        """What is known, if it may be used, or else what the origin says now."""
        if known is None and self._absent.get(path):
            raise NotFound()
        age = Freshness.OVER if known is None else self._age(known)
        troubled = self._troubled.get(path) is not None
        if age is not Freshness.FRESH and not troubled and (known is not None or question == "stat"):
            # Not by this request alone: an origin too slow for a hit's patience would never be heard to the end.
            await self._background.start(f"{question} {path}", lambda: self._join(question, path))
        if known is not None and (age in (Freshness.FRESH, Freshness.USABLE) or (age is Freshness.OLD and troubled)):
            return known
        if question == "stat" and troubled:
            raise Unavailable("The source has just failed", reason="origin", retry_after=self._retry_delay_seconds)
        try:
            return await self._wait(question, path)
        except _TROUBLE:
            if known is None or age is not Freshness.OLD:
                raise
            return known

    def _age(self, facts: OriginMetadata) -> Freshness:
        return age_of(facts, now=self._clock(), lifetimes=self._lifetimes)

    async def _kept(self, path: str) -> OriginMetadata | None:
        """What cannot be read is as good as not kept."""
        key = self._key(path)
        try:
            facts = await self._threads.run(lambda: self._stock.metadata(key))
        except OSError as error:
            self._warn(error)
            return None
        return None if facts is None or self._condemned.holds(path, facts.checked) else facts

    def _open(self, facts: OriginMetadata) -> tuple[int, bytes] | None:
        descriptor = self._stock.open(facts)
        return None if descriptor is None else (descriptor, read_head(descriptor))

    def _original(self, facts: OriginMetadata, descriptor: int, head: bytes) -> Original:
        assert facts.body is not None
        return Original(
            path=worker_path(descriptor, self._stock.path(facts)),
            head=head,
            fingerprint=facts.fingerprint,
            size_bytes=facts.body.length,
            modified=facts.validators.modified,
            max_age_seconds=facts.max_age_seconds,
        )

    # Asking the origin

    async def _wait(self, question: FetchKind, path: str) -> OriginMetadata:
        with self._queue.place(question):
            return await self._join(question, path)

    async def _join(self, question: FetchKind, path: str) -> OriginMetadata:
        """One question about one original at a time; who asks after a purge never joins one from before it."""
        make = self._fetch if question == "fetch" else self._stat
        facts, _ = await self._flights.run((question, path, self._forgotten), lambda: make(path))
        return facts

    async def _fetch(self, path: str) -> OriginMetadata:
        kept = await self._kept(path)
        # Somebody has just asked, and this one had looked for the original before that.
        if kept is not None and self._age(kept) is Freshness.FRESH:
            return kept
        draft = PartialDownload(self._stock)
        try:
            return await self._fetched(path, kept, draft)
        finally:
            await self._threads.run_to_completion(draft.discard)

    async def _fetched(self, path: str, kept: OriginMetadata | None, draft: PartialDownload) -> OriginMetadata:
        forgotten, checked = self._forgotten, self._clock()
        known = kept.validators if kept is not None else None
        told = await self._ask("fetch", path, lambda: self._origin.fetch(path, self._sink(draft), known=known))
        if forgotten != self._forgotten:
            checked = LONG_AGO
        if told is not None:
            facts = learnt(self._key(path), told, checked=checked)
            facts = await self._in_thread(partial(draft.commit, facts))
            self._fetches += 1
            return facts
        if kept is None:
            raise SourceFailed("The origin calls unchanged what it was not asked to compare")
        renewed = replace(kept, checked=checked)
        await self._in_thread(lambda: self._stock.update_metadata(renewed))
        self._revalidations += 1
        return renewed

    def _sink(self, draft: PartialDownload) -> BodySink:
        async def sink(chunk: bytes) -> None:
            if draft.length + len(chunk) > self._settings.item_bytes:
                limit = self._settings.item_bytes
                raise ImageOverLimit(f"source bytes: over the limit of {limit}", limit="source bytes", allowed=limit)
            await self._in_thread(lambda: draft.write(chunk))

        return sink

    async def _stat(self, path: str) -> OriginMetadata:
        checked = self._clock()
        told = await self._ask("stat", path, lambda: self._origin.stat(path))
        if state_of(told.validators) is None:
            return await self._join("fetch", path)
        facts = learnt(self._key(path), told, checked=checked)
        self._stats += 1
        self._looked.put(path, facts)
        return facts

    async def _ask(self, question: FetchKind, path: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            answer = await self._queue.ask(question, work)
        except NotFound:
            self._absent.put(path, True)
            self._looked.pop(path)
            await self._in_thread(lambda: self._stock.remove(self._key(path)))
            raise
        except _TROUBLE as error:
            if error.facts.get("reason") not in _OURS:
                self._troubled.put(path, True)
            raise
        self._troubled.pop(path)
        return answer

    # Keys and threads

    def _key(self, path: str) -> str:
        return self._prefix + path

    async def _in_thread(self, work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        try:
            return await self._threads.run(work, undo=undo)
        except OSError as error:
            self._warn(error)
            raise Unavailable("The spool's disk does not answer", reason="disk", retry_after=5) from error
        except ValueError as error:  # facts that no file can hold
            raise NotFound() from error

    def _warn(self, error: OSError) -> None:
        if time.monotonic() - self._warned > WARNING_SECONDS:
            self._warned = time.monotonic()
            log.warning("The spool of %s cannot be used: %s", self._name or "originals", error.strerror)


def _close(opened: tuple[int, bytes] | None) -> None:
    if opened is not None:
        os.close(opened[0])
