"""One image request after content negotiation: answered from the cache, or rendered once and cached."""

import random
from dataclasses import dataclass, field, replace

from imgserver.cache.early_refresh import EarlyRefreshes, is_due, is_stale
from imgserver.cache.negative import NegativeCache
from imgserver.cache.tiered import Found, TieredCache
from imgserver.errors import ImgserverError, NotFound, Overloaded
from imgserver.headers import caching
from imgserver.plan.canonical import source_digest
from imgserver.plan.plan import SourceRef
from imgserver.plan.rendition import CachePolicy, Fingerprint, GroupGenerations, Rendition
from imgserver.rendering.aliases import Aliases
from imgserver.rendering.client_queue import Criticality, Requester
from imgserver.rendering.degradation import Degradation
from imgserver.rendering.equal_requests import EqualRequests
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

# How long a new rendition may take to reach Redis before the render lock is released and other replicas read it there.
WRITTEN_SECONDS = 1.0
ANONYMOUS = Requester()
REFRESH = Requester(criticality=Criticality.REFRESH)


@dataclass(frozen=True, slots=True)
class ImageService:
    """Four rules decide between cached and new renditions.

    A rendition past its soft lifetime is served stale while it is revalidated in the background. A rendition whose
    original cannot be checked for now is served stale. A rendition whose original has changed is rendered again, and
    served only if that fails with 502, 503 or 504, or while a young original does not decode. A purged rendition is
    never served. An origin may demand that its originals are not cached, or never served stale (`CachePolicy`).
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
    equal_requests: EqualRequests = field(default_factory=EqualRequests)
    refreshes: EarlyRefreshes = field(default_factory=EarlyRefreshes)
    aliases: Aliases = field(default_factory=Aliases)

    # Answers

    def get_fresh(self, request: RenderRequest) -> Rendition | None:
        """The rendition in memory, if it is fresh and its original was checked within the last second; else None."""
        if self.aliases:
            request = self.aliases.find(request) or request
        fingerprint = self.renderer.fingerprints.get(request.ref)
        if fingerprint is None:
            return None
        rendition = self.cache.get_fresh(request.key)
        if rendition is None:
            return None
        if rendition.fingerprint != fingerprint or self.refreshes.decide(request.key, rendition):
            self.cache.undo_hit()
            return None
        return rendition

    async def get(self, request: RenderRequest, requester: Requester = ANONYMOUS) -> ServedRendition:
        """The rendition from the cache or from a render.

        Raises what the source, admission and the engine raise (see `errors.py`), and OriginalBusy.
        """
        request = await self._resolve_alias(request)
        was_decided = self.refreshes.take(request.key)
        error = await self._cached_error(request)
        if error is not None and not error.is_young:
            raise error
        cached = await self._find(request)
        if error is not None:
            return self._stale(cached, error)
        if cached is None and (served := await self._get_equal(request, requester)) is not None:
            return served
        if cached is None or not cached.current:
            return await self._render_or_serve_stale(request, requester, stale=cached)
        if was_decided or is_due(cached.rendition):
            await self.background.start(request.key, lambda: self._render_shared(request, REFRESH))
        fresh = cached.checked and not is_stale(cached.rendition)
        return ServedRendition(cached.rendition, "hit" if fresh else "stale", cached.tier)

    def forget_original(self, ref: SourceRef) -> None:
        """The original has been replaced: the next request reads its fingerprint again."""
        self.renderer.fingerprints.pop(ref)
        self.negative_cache.drop(source_digest(ref))

    # Misses

    async def _get_equal(self, request: RenderRequest, requester: Requester) -> ServedRendition | None:
        """The rendition of another request that has the same result; None if no such request is known.

        A request that was purged by its own URL is rendered itself: the purge has not reached the other one.
        """
        own = [group for group in request.groups if group.startswith("k")]
        was_purged = any(token for _, token in self.cache.generations.known(own))
        if was_purged or not self.equal_requests.is_comparable(request):
            return None
        try:
            ref = request.ref
            fingerprint = self.renderer.fingerprints.get(ref) or await self.renderer.read_fingerprint(ref)
        except ImgserverError:
            return None
        first = self.equal_requests.first(request, fingerprint)
        if first is request:
            return None
        served = await self.get(first, requester)
        # For an original that has changed since, the two results may differ.
        return served if served.rendition.fingerprint == fingerprint else None

    async def _render_or_serve_stale(
        self, request: RenderRequest, requester: Requester, *, stale: CachedRendition | None
    ) -> ServedRendition:
        """A new rendition. Falls back to the stale one if the render fails for now, the new original does not decode
        yet, or the quota is used up."""
        try:
            return await self._render_or_degrade(request, requester)
        except ImgserverError as error:
            return self._stale(stale, error)

    def _stale(self, stale: CachedRendition | None, error: ImgserverError) -> ServedRendition:
        """The stale rendition instead of an error that allows it. Raises the error otherwise."""
        may_serve_stale = _is_temporary(error) or error.is_young
        if not may_serve_stale or stale is None or stale.rendition.cache_policy is CachePolicy.MUST_REVALIDATE:
            raise error
        # The stale rendition may have been purged while the render failed.
        if not self.cache.generations.are_current(stale.rendition.generations):
            raise error
        return ServedRendition(stale.rendition, "stale", stale.tier)

    async def _render_or_degrade(self, request: RenderRequest, requester: Requester) -> ServedRendition:
        """The requested rendition; a degraded one while many requests wait, unless the requested one is in flight."""
        if self.flights.is_in_flight(self._flight_key(request)):
            return await self._render_shared(request, requester)
        pressure = self.renderer.admission.pressure(requester.criticality, client=requester.client)
        level = self.degradation.level(requester.criticality, pressure)
        degraded = self.pipeline_version.degraded_request(request, level)
        if degraded.key == request.key:
            return await self._render_shared(request, requester)
        self.degradation.counts[level] += 1
        cached = await self._find(degraded)
        if cached is not None and cached.current:
            return ServedRendition(cached.rendition, "hit", cached.tier, level)
        return replace(await self._render_shared(degraded, requester), level=level)

    async def _render_shared(self, request: RenderRequest, requester: Requester) -> ServedRendition:
        """One render for all concurrent requests of this server. A refusal concerns the client that started the render:
        another client that joined it may have a share of the workers left."""
        joins = self.flights.is_in_flight(self._flight_key(request))
        try:
            return await self._join_or_render(request, requester)
        except Overloaded:
            if not joins:
                raise
        self.renderer.admission.check_capacity(requester.criticality, client=requester.client)
        return await self._join_or_render(request, requester)

    async def _join_or_render(self, request: RenderRequest, requester: Requester) -> ServedRendition:
        """The request that starts the render pays with its quota."""
        flight = self._flight_key(request)
        pays = request.metered and requester is not REFRESH and not self.flights.is_in_flight(flight)
        if pays:
            self.quota.take(request.ref)
        try:
            result, joined = await self.flights.run(flight, lambda: self._render_once(request, requester))
        except (NotFound, Overloaded):
            if pays:
                self.quota.put_back(request.ref)
            raise
        if pays and not (joined or result.elsewhere):
            self.quota.charge(request.ref, seconds=result.rendition.render_seconds)
        return ServedRendition(result.rendition, "joined" if joined or result.elsewhere else "rendered")

    def _flight_key(self, request: RenderRequest) -> tuple[str, GroupGenerations]:
        """With the generations, so that a request after a purge never joins a flight that began before it."""
        return request.key, self.cache.generations.known(request.groups)

    async def _render_once(self, request: RenderRequest, requester: Requester) -> RenderedResult:
        """One render for all replicas that share a Redis, as long as Redis answers."""
        lock, seconds = self.cache.render_lock, self.renderer.admission.deadline_seconds
        if lock is None:
            return RenderedResult(await self._render_and_cache(request, requester))
        attempt = await lock.acquire(request.key, seconds=seconds)
        if not attempt.acquired and await lock.wait_released(request.key, seconds=seconds):
            found = await self.cache.find_below_memory(request.key, request.groups)
            cached = await self._check_original(request, found)
            if cached is not None and cached.current:
                return RenderedResult(cached.rendition, elsewhere=True)
        try:
            rendition = await self._render_and_cache(request, requester)
            await self.cache.wait_written(request.key, seconds=WRITTEN_SECONDS)
            return RenderedResult(rendition)
        finally:
            await lock.release(request.key, attempt)

    async def _render_and_cache(self, request: RenderRequest, requester: Requester) -> Rendition:
        generations = await self.cache.generations.fetch(request.groups)

        def on_failure(error: ImgserverError, fingerprint: Fingerprint) -> None:
            # While a background refresh fails, the stale rendition is served and no error is cached.
            if requester is not REFRESH:
                self.negative_cache.put(request.key, error, fingerprint=fingerprint, generations=generations)

        try:
            rendition = await self.renderer.render(request, requester, on_failure=on_failure)
        except NotFound as error:
            self._cache_absence(request, error)
            raise
        rendition = self._with_lifetime(rendition, generations)
        self.negative_cache.drop(request.key)
        if rendition.cache_policy.allows_shared_caches:
            self.equal_requests.learn(request, rendition)
            self.cache.put(request.key, rendition)
        else:
            self.cache.drop(request.key)
        return rendition

    def _with_lifetime(self, rendition: Rendition, generations: GroupGenerations) -> Rendition:
        lifetime = caching.lifetime(
            created=rendition.created,
            soft_seconds=self.fresh_seconds,
            draw=random.random(),  # noqa: S311
        )
        return replace(rendition, fresh_until=lifetime.fresh_until, expires=lifetime.expires, generations=generations)

    # Look-ups

    async def _find(self, request: RenderRequest) -> CachedRendition | None:
        return await self._check_original(request, await self.cache.find(request.key, request.groups))

    async def _check_original(self, request: RenderRequest, found: Found | None) -> CachedRendition | None:
        """The cached rendition, compared with its original."""
        if found is None:
            return None
        rendition, tier = found
        if not _covers(rendition.generations, request.groups):
            self.cache.drop(request.key)
            return None
        is_strict = rendition.cache_policy is CachePolicy.MUST_REVALIDATE
        unchanged = await self._is_unchanged(request, rendition.fingerprint, is_strict=is_strict)
        return CachedRendition(rendition, tier, current=unchanged is not False, checked=unchanged is not None)

    async def _is_unchanged(
        self, request: RenderRequest, fingerprint: Fingerprint | None, *, is_strict: bool = False
    ) -> bool | None:
        """Whether the original still has this fingerprint. None while its source fails, or its error if `is_strict`."""
        if fingerprint is not None and self.renderer.fingerprints.get(request.ref) == fingerprint:
            return True
        try:
            return await self.renderer.read_fingerprint(request.ref) == fingerprint
        except NotFound as error:
            self._cache_absence(request, error)
            raise
        except ImgserverError as error:
            if is_strict or not _is_temporary(error):
                raise
            return None

    async def _resolve_alias(self, request: RenderRequest) -> RenderRequest:
        """The same request by the name that stands for all names of its original."""
        absent = self.negative_cache.get(source_digest(request.ref), self._generations_of_original(request))
        # What was read within the last second was read under that name.
        if absent is not None or self.renderer.fingerprints.get(request.ref) is not None:
            return request
        rename = self.pipeline_version.renamed
        return await self.aliases.resolve(request, identify=self.renderer.identify, rename=rename)

    # Cached errors

    async def _cached_error(self, request: RenderRequest) -> ImgserverError | None:
        """The error of an earlier request, as long as the original is unchanged.

        A flood of requests for one bad URL costs one check of its original per second, and a render now and then.
        """
        original = source_digest(request.ref)
        if request.key not in self.negative_cache and original not in self.negative_cache:
            return None
        generations = self.cache.generations.known(request.groups)
        absent = self.negative_cache.get(original, self._generations_of_original(request))
        if absent is not None:
            return self.negative_cache.hit(absent)
        entry = self.negative_cache.get(request.key, generations)
        if entry is None:
            return None
        if entry.error.is_young:
            # The original may be whole by now, and must not wait for the end of its fingerprint's time.
            self.renderer.fingerprints.pop(request.ref)
        if await self._is_unchanged(request, entry.fingerprint) is not False:
            return self.negative_cache.hit(entry)
        self.negative_cache.drop(request.key)
        return None

    def _cache_absence(self, request: RenderRequest, error: NotFound) -> None:
        """The original does not exist: drops the rendition, and caches the error."""
        self.cache.drop(request.key)
        # For about a second, and never longer, so that a new original is soon found.
        self.negative_cache.put(
            source_digest(request.ref),
            error,
            fingerprint=None,
            generations=self._generations_of_original(request),
            grows=False,
        )

    def _generations_of_original(self, request: RenderRequest) -> GroupGenerations:
        """Without the group of this rendition's key, which no other rendition of the original has."""
        return self.cache.generations.known(group for group in request.groups if not group.startswith("k"))


def _is_temporary(error: ImgserverError) -> bool:
    """502, 503, 504: the source or this server fails for now, which says nothing about the image (RFC 5861, 4)."""
    return error.status in (502, 503, 504)


def _covers(generations: GroupGenerations, groups: tuple[str, ...]) -> bool:
    """Whether a purge of any of these groups reaches the record. It does not if the record is older than a tag rule."""
    return {group for group, _ in generations}.issuperset(groups)
