"""The story of one picture: found in the cache, stale or fresh, joined in flight, or rendered."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from imgserver.cache.negative import NegativeCache
from imgserver.cache.tiered import Found, TieredCache
from imgserver.errors import ImgserverError, NotFound, Overloaded, QuotaExceeded
from imgserver.headers import caching
from imgserver.plan.plan import SourceRef
from imgserver.plan.rendition import Fingerprint, GroupGenerations, Rendition
from imgserver.rendering.admission import Criticality
from imgserver.rendering.degradation import Degradation, degrade
from imgserver.rendering.renderer import Renderer
from imgserver.rendering.variants import (
    CachedRendition,
    PipelineVersion,
    RenderedResult,
    RenderRequest,
    ServedRendition,
)
from imgserver.runtime.background import BackgroundRefresh
from imgserver.runtime.single_flight import SingleFlight
from imgserver.security.rate_limit import Quota

# How long a finished picture waits to be in Redis before the other servers are told to look there.
WRITTEN_SECONDS = 1.0
# Keys found due whose requests have not come to `get` yet.
DUE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class ImageService:
    """A picture past its soft end is answered as it is and renewed behind the answer. One whose original has changed is
    made anew, and answered only when that cannot be done (502, 503, 504). One that was purged is never answered.
    """

    cache: TieredCache
    flights: SingleFlight[RenderedResult]
    renderer: Renderer
    background: BackgroundRefresh
    pipeline_version: PipelineVersion
    quota: Quota
    negative_cache: NegativeCache
    degradation: Degradation
    fresh_seconds: float
    due: set[str] = field(default_factory=set)

    def get_fresh(self, order: RenderRequest) -> Rendition | None:
        """A picture that can be answered at once: kept, fresh, and its original was looked at a moment ago."""
        seen = self.renderer.fingerprints.get(order.ref)
        if seen is None:
            return None
        rendition = self.cache.get_fresh(order.key)
        if rendition is None:
            return None
        if rendition.fingerprint != seen or order.key in self.due or self._find_due(order.key, rendition):
            self.cache.undo_hit()
            return None
        return rendition

    def _find_due(self, key: str, rendition: Rendition) -> bool:
        """Drawn once per request: who finds it due comes to `get`, which must not draw again."""
        if not _is_due(rendition):
            return False
        if len(self.due) >= DUE_LIMIT:
            self.due.clear()
        self.due.add(key)
        return True

    def written(self, ref: SourceRef) -> None:
        """The original is another now: nobody is answered by what was seen of it a moment ago."""
        self.renderer.fingerprints.pop(ref)
        self.negative_cache.drop(ref)

    async def get(self, order: RenderRequest, criticality: Criticality = Criticality.NORMAL) -> ServedRendition:
        """Raises what the source, the waiting room and the engine raise; see `errors.py`."""
        was_due = order.key in self.due
        self.due.discard(order.key)
        await self._refuse_again(order)
        kept = await self._kept(order)
        if kept is None or not kept.current:
            return await self._fresh(order, criticality, former=kept)
        if was_due or _is_due(kept.rendition):
            await self.background.start(order.key, lambda: self._fly(order, Criticality.REFRESH))
        return ServedRendition(kept.rendition, "stale" if _is_stale(kept.rendition) else "hit", kept.tier)

    async def _fresh(
        self, order: RenderRequest, criticality: Criticality, *, former: CachedRendition | None
    ) -> ServedRendition:
        """A picture made now. Where that cannot be, or not again so soon, the one of before is better than none."""
        try:
            return await self._made_or_cheaper(order, criticality)
        except ImgserverError as error:
            # What was purged while this failed is not answered either.
            passing = _will_pass(error) or isinstance(error, QuotaExceeded)
            if not passing or former is None or not self.cache.generations.are_current(former.rendition.generations):
                raise
            return ServedRendition(former.rendition, "stale", former.tier)

    async def _made_or_cheaper(self, order: RenderRequest, criticality: Criticality) -> ServedRendition:
        """While many wait, a cheaper picture in its place, unless the one asked for is being made already."""
        if self.flights.is_in_flight(self._flight(order)):
            return await self._made(order, criticality)
        level = self.degradation.at(self.renderer.admission.pressure(criticality))
        other = self.pipeline_version.degraded_request(order, degrade(order.plan, level))
        if other.key == order.key:
            return await self._made(order, criticality)
        self.degradation.counts[level] += 1
        kept = await self._kept(other)
        if kept is not None and kept.current:
            return ServedRendition(kept.rendition, "hit", kept.tier, level)
        return replace(await self._made(other, criticality), level=level)

    async def _made(self, order: RenderRequest, criticality: Criticality) -> ServedRendition:
        made, joined = await self._fly(order, criticality)
        return ServedRendition(made.rendition, "joined" if joined or made.elsewhere else "rendered")

    async def _refuse_again(self, order: RenderRequest) -> None:
        """Raises what this was refused with a moment ago, as long as its original is what it was.

        A flood of one bad URL costs one look per second and a render now and then.
        """
        if order.key not in self.negative_cache and order.ref not in self.negative_cache:
            return
        generations = self.cache.generations.known(order.groups)
        absent = self.negative_cache.get(order.ref, self._generations_of_original(order))
        if absent is not None:
            raise self.negative_cache.hit(absent)
        refusal = self.negative_cache.get(order.key, generations)
        if refusal is None:
            return
        if await self._is_as_it_was(order, refusal.fingerprint):
            raise self.negative_cache.hit(refusal)
        self.negative_cache.drop(order.key)

    async def _is_as_it_was(self, order: RenderRequest, state: Fingerprint | None) -> bool:
        """Whether the original is in that state. While its source is away, it counts as being so."""
        try:
            return (self.renderer.fingerprints.get(order.ref) or await self._look(order)) == state
        except ImgserverError as error:
            if not _will_pass(error):
                raise
            return True

    async def _fly(self, order: RenderRequest, criticality: Criticality) -> tuple[RenderedResult, bool]:
        flight = self._flight(order)
        if not order.metered or criticality is Criticality.REFRESH or self.flights.is_in_flight(flight):
            return await self.flights.run(flight, lambda: self._make_once(order, criticality))
        self.quota.take(order.ref)
        try:
            return await self.flights.run(flight, lambda: self._make_once(order, criticality))
        except (NotFound, Overloaded):
            self.quota.give_back(order.ref)
            raise

    def _flight(self, order: RenderRequest) -> tuple[str, GroupGenerations]:
        """With the purge generations: who asks after a purge never joins a flight from before it."""
        return order.key, self.cache.generations.known(order.groups)

    async def _kept(self, order: RenderRequest) -> CachedRendition | None:
        return await self._judged(order, await self.cache.find(order.key, order.groups))

    async def _judged(self, order: RenderRequest, found: Found | None) -> CachedRendition | None:
        """The cached picture. While its source is away, it counts as current."""
        if found is None:
            return None
        rendition, tier = found
        if not _covers(rendition.generations, order.groups):
            self.cache.drop(order.key)
            return None
        if self.renderer.fingerprints.get(order.ref) == rendition.fingerprint:
            return CachedRendition(rendition, tier, current=True)
        try:
            return CachedRendition(rendition, tier, current=await self._look(order) == rendition.fingerprint)
        except ImgserverError as error:
            if not _will_pass(error):
                raise
            return CachedRendition(rendition, tier, current=True)

    async def _look(self, order: RenderRequest) -> Fingerprint:
        with self._noting_absence(order):
            return await self.renderer.look(order.ref)

    async def _make_once(self, order: RenderRequest, criticality: Criticality) -> RenderedResult:
        """Once among all servers that share a Redis, as long as it answers; else once in this one."""
        lock, seconds = self.cache.render_lock, self.renderer.admission.deadline_seconds
        if lock is None:
            return RenderedResult(await self._make(order, criticality))
        attempt = await lock.acquire(order.key, seconds=seconds)
        if not attempt.acquired and await lock.wait_released(order.key, seconds=seconds):
            kept = await self._judged(order, await self.cache.find_below_memory(order.key, order.groups))
            if kept is not None and kept.current:
                return RenderedResult(kept.rendition, elsewhere=True)
        try:
            rendition = await self._make(order, criticality)
            await self.cache.wait_written(order.key, seconds=WRITTEN_SECONDS)
            return RenderedResult(rendition)
        finally:
            await lock.release(order.key, attempt)

    async def _make(self, order: RenderRequest, criticality: Criticality) -> Rendition:
        generations = await self.cache.generations.fetch(order.groups)

        def on_refusal(error: ImgserverError, state: Fingerprint) -> None:
            # What is renewed behind answers still has a picture to answer with.
            if criticality is not Criticality.REFRESH:
                self.negative_cache.put(order.key, error, fingerprint=state, generations=generations)

        with self._noting_absence(order):
            made = await self.renderer.picture(order, criticality, on_refusal=on_refusal)
        rendition = self._aged(made, generations)
        self.negative_cache.drop(order.key)
        self.cache.put(order.key, rendition)
        return rendition

    @contextmanager
    def _noting_absence(self, order: RenderRequest) -> Iterator[None]:
        try:
            yield
        except NotFound as error:
            self.cache.drop(order.key)
            # For about a second, so that what is put there is soon seen.
            generations = self._generations_of_original(order)
            self.negative_cache.put(order.ref, error, fingerprint=None, generations=generations, grows=False)
            raise

    def _generations_of_original(self, order: RenderRequest) -> GroupGenerations:
        """Without that of this one picture, of which no other rendition knows."""
        return self.cache.generations.known(group for group in order.groups if not group.startswith("k"))

    def _aged(self, rendition: Rendition, generations: GroupGenerations) -> Rendition:
        ends = caching.lifetime(
            created=rendition.created,
            soft_seconds=self.fresh_seconds,
            draw=random.random(),  # noqa: S311
        )
        return replace(rendition, fresh_until=ends.fresh_until, expires=ends.expires, generations=generations)


def _will_pass(error: ImgserverError) -> bool:
    """502, 503, 504: the source or this server cannot now, which says nothing of the picture (RFC 5861, 4)."""
    return error.status in (502, 503, 504)


def _covers(generations: GroupGenerations, groups: tuple[str, ...]) -> bool:
    """Whether a purge of any of these groups would reach the record: not if it is from before a tag's rule."""
    return {group for group, _ in generations}.issuperset(groups)


def _is_stale(rendition: Rendition) -> bool:
    return rendition.fresh_until is not None and rendition.fresh_until <= time.time()


def _is_due(rendition: Rendition) -> bool:
    """Stale, or so near to it that this request is the one to renew it (XFetch)."""
    now, end = time.time(), rendition.fresh_until
    # No draw is early enough by more than that; a hit need not draw one.
    if end is None or now + caching.EARLIEST_RENDERS * rendition.render_seconds < end:
        return False
    draw = 1.0 - random.random()  # noqa: S311
    return caching.is_early(now=now, fresh_until=end, render_seconds=rendition.render_seconds, draw=draw)
