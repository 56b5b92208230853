"""The story of one picture: found in the cache, stale or fresh, joined in flight, or rendered."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

from imgserver import freshness, identity, negotiation
from imgserver.admission import Admission, Criticality, Ticket
from imgserver.behind import Behind
from imgserver.caches.groups import groups_of
from imgserver.caches.tiered import Tiered
from imgserver.cost import CostModel, Work
from imgserver.engine.job import Job, Limits, Quality, RenderResult
from imgserver.errors import DeadlineExceeded, ImgserverError, NotFound, SourceFailed, Unavailable
from imgserver.estimate import foresee
from imgserver.flights import Flights
from imgserver.plan import ImageRequest, Plan, SourceRef
from imgserver.rendition import Fingerprint, Marks, Original, Rendition
from imgserver.sources import Source
from imgserver.sources.looks import RecentLooks
from imgserver.workers import Workers

# A look at an original is one system call; a file system that hangs must not hold every visitor for ever.
LOOK_SECONDS = 2.0
# How long a finished picture waits to be in Redis before the other servers are told to look there.
WRITTEN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """A wish after negotiation: nothing in it depends on a header any more. `groups` are what it is purged with."""

    key: str
    ref: SourceRef
    plan: Plan
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edition:
    """How this server makes pictures, as a part of every key: what another setting made is not a hit of ours."""

    name: str

    @classmethod
    def of(cls, quality: Quality) -> "Edition":
        return cls(sha256(repr(quality).encode()).hexdigest()[:8])

    def key(self, ref: SourceRef, plan: Plan) -> str:
        return f"{self.name}/{identity.key(ref, plan)}"

    def order(self, request: ImageRequest, offers: tuple[str, ...]) -> Order:
        """What a request asks for, once a client's offers are known."""
        output = negotiation.negotiate(request.plan.output, offers)
        plan = identity.normalise(replace(request.plan, output=output))
        key = self.key(request.ref, plan)
        return Order(key, request.ref, plan, groups_of(request.ref, key=key))


@dataclass(frozen=True, slots=True)
class Served:
    rendition: Rendition
    outcome: Literal["hit", "stale", "joined", "rendered"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One finished render, for whoever observes; `queue_seconds` is its wait for a slot."""

    result: RenderResult
    queue_seconds: float
    render_seconds: float


@dataclass(frozen=True, slots=True)
class ImageService:
    """One source per name. `observe` is told of each render that ended well, `observe_failure` of the others.

    A picture past its soft end is answered as it is and renewed behind the answer. One whose original has changed, or
    that was purged, is never answered.
    """

    sources: Mapping[str, Source]
    cache: Tiered
    looks: RecentLooks
    flights: Flights[Rendition]
    admission: Admission
    workers: Workers
    costs: CostModel
    limits: Limits
    quality: Quality
    fresh_seconds: float
    behind: Behind
    edition: Edition
    observe: Callable[[Rendered], None]
    observe_failure: Callable[[Work, ImgserverError], None]

    def at_hand(self, order: Order) -> Rendition | None:
        """A picture that can be answered at once: kept, fresh, and its original was looked at a moment ago."""
        seen = self.looks.recall(order.ref)
        if seen is None:
            return None
        rendition = self.cache.at_hand(order.key)
        if rendition is None or rendition.fingerprint != seen or _is_due(rendition):
            return None
        return rendition

    async def get(self, order: Order, criticality: Criticality = Criticality.NORMAL) -> Served:
        """Raises what the source, the waiting room and the engine raise; see `errors.py`."""
        rendition = await self._kept(order)
        if rendition is None:
            rendition, joined = await self._fly(order, criticality)
            return Served(rendition, "joined" if joined else "rendered")
        if _is_due(rendition):
            await self.behind.start(order.key, lambda: self._fly(order, Criticality.REFRESH))
        return Served(rendition, "stale" if _is_stale(rendition) else "hit")

    async def _fly(self, order: Order, criticality: Criticality) -> tuple[Rendition, bool]:
        """Keyed by the purge marks as well: who asks after a purge never joins a flight from before it."""
        flight = (order.key, self.cache.marks.at(order.groups))
        return await self.flights.join(flight, lambda: self._make_once(order, criticality))

    async def _kept(self, order: Order) -> Rendition | None:
        """The cached picture, if its original has not changed since. While the source is away, as it was kept."""
        rendition = await self.cache.get(order.key, order.groups)
        if rendition is None:
            return None
        try:
            if await self._look(order) == rendition.fingerprint:
                return rendition
        except (Unavailable, DeadlineExceeded, SourceFailed):
            return rendition
        self.cache.drop(order.key)
        return None

    async def _look(self, order: Order) -> Fingerprint:
        try:
            async with _at_most(LOOK_SECONDS):
                fingerprint = await self._source(order.ref).fingerprint(order.ref.path)
        except NotFound:
            self.cache.drop(order.key)
            raise
        self.looks.note(order.ref, fingerprint)
        return fingerprint

    async def _make_once(self, order: Order, criticality: Criticality) -> Rendition:
        """Once among all servers that share a Redis, as long as it answers; else once in this one."""
        lock, seconds = self.cache.lock, self.admission.deadline_seconds
        if lock is None:
            return await self._make(order, criticality)
        turn = await lock.take(order.key, seconds=seconds)
        if not turn.ours and await lock.wait(order.key, seconds=seconds):
            rendition = await self._kept(order)
            if rendition is not None:
                return rendition
        try:
            rendition = await self._make(order, criticality)
            await self.cache.written(order.key, seconds=WRITTEN_SECONDS)
            return rendition
        finally:
            await lock.release(order.key, turn)

    async def _make(self, order: Order, criticality: Criticality) -> Rendition:
        began = time.monotonic()
        await self._bring(order, criticality)
        with self.admission.enter(criticality, began=began) as ticket:
            marks = await self.cache.marks.note(order.groups)
            async with AsyncExitStack() as held:
                # Before the ticket's deadline, which the worker's kill timer then keeps.
                async with _at_most(ticket.deadline - time.monotonic()):
                    original = await held.enter_async_context(self._source(order.ref).open(order.ref.path))
                self.looks.note(order.ref, original.fingerprint)
                rendition = self._aged(await self._render(order, original, ticket), marks)
        self.cache.put(order.key, rendition)
        return rendition

    async def _bring(self, order: Order, criticality: Criticality) -> None:
        """A far original is waited for outside the waiting room, or a slow origin would fill it and those who need only
        a worker were refused. The source bounds who waits here. For whom the room has no place, nothing is fetched."""
        self.admission.knock(criticality)
        async with _at_most(self.admission.deadline_seconds):
            await self._source(order.ref).bring(order.ref.path)

    def _aged(self, rendition: Rendition, marks: Marks) -> Rendition:
        ends = freshness.lifetime(
            created=rendition.created,
            soft_seconds=self.fresh_seconds,
            draw=random.random(),  # noqa: S311
        )
        return replace(rendition, fresh_until=ends.fresh_until, expires=ends.expires, marks=marks)

    async def _render(self, order: Order, original: Original, ticket: Ticket) -> Rendition:
        job = Job(original.path, order.plan, self.limits, self.quality)
        work = foresee(original.head, original.size_bytes, order.plan, quality=self.quality, limits=self.limits)
        async with ticket.slot(self.costs.estimate(work)):
            begun = time.monotonic()
            try:
                result = await self.workers.render(job, deadline=ticket.deadline, key=_suspect(order, original))
            except ImgserverError as error:
                self.observe_failure(work, error)
                raise
        seconds = time.monotonic() - begun
        self.costs.observe(work, cpu_seconds=result.timings.cpu_seconds)
        self.observe(Rendered(result, ticket.waited_seconds, seconds))
        return _rendition(result, original, seconds)

    def _source(self, ref: SourceRef) -> Source:
        return self.sources[ref.source]


def _suspect(order: Order, original: Original) -> str:
    """What is set aside when it kills workers: this state of the original, whatever is asked of it. By the rendition's
    key, a hostile file would take two workers for each option that can be put before it."""
    return f"{order.ref.source}/{order.ref.path} {original.fingerprint}"


def _is_stale(rendition: Rendition) -> bool:
    return rendition.fresh_until is not None and rendition.fresh_until <= time.time()


def _is_due(rendition: Rendition) -> bool:
    """Stale, or so near to it that this request is the one to renew it (XFetch)."""
    now, end = time.time(), rendition.fresh_until
    # No draw is early enough by more than that; a hit need not draw one.
    if end is None or now + freshness.EARLIEST_RENDERS * rendition.render_seconds < end:
        return False
    draw = 1.0 - random.random()  # noqa: S311
    return freshness.is_early(now=now, fresh_until=end, render_seconds=rendition.render_seconds, draw=draw)


@asynccontextmanager
async def _at_most(seconds: float) -> AsyncIterator[None]:
    """Around what the source does. Raises DeadlineExceeded."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded("The source took too long") from error


def _rendition(result: RenderResult, original: Original, seconds: float) -> Rendition:
    return Rendition(
        body=result.body,
        media_type=result.media_type,
        etag=result.etag,
        size=result.size,
        source_format=result.source_format,
        fingerprint=original.fingerprint,
        modified=original.modified,
        max_age_seconds=original.max_age_seconds,
        created=time.time(),
        render_seconds=seconds,
    )
