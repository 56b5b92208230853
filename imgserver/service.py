"""The story of one picture: found in the cache, stale or fresh, joined in flight, or rendered."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

from imgserver import freshness, identity, negotiation
from imgserver.admission import Admission, Criticality, Ticket
from imgserver.behind import Behind
from imgserver.caches.groups import groups_of
from imgserver.caches.tiered import Tiered, TierName
from imgserver.cost import CostModel, Work
from imgserver.engine.job import Job, Limits, Quality, RenderResult
from imgserver.errors import DeadlineExceeded, ImgserverError, NotFound, Overloaded, QuotaExceeded
from imgserver.estimate import foresee
from imgserver.flights import Flights
from imgserver.plan import ImageRequest, Plan, SourceRef
from imgserver.quota import Quota
from imgserver.refusals import Refusals
from imgserver.rendition import Fingerprint, Marks, Original, Rendition, Stages
from imgserver.rules import Rules
from imgserver.sources import Source
from imgserver.sources.looks import RecentLooks
from imgserver.tags import NO_TAGS, Tags
from imgserver.workers import Workers

# A look at an original is one system call; a file system that hangs must not hold every visitor for ever.
LOOK_SECONDS = 2.0
# How long a finished picture waits to be in Redis before the other servers are told to look there.
WRITTEN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """A wish after negotiation: nothing in it depends on a header any more. `groups` are what it is purged with.

    `metered`: by a URL that anybody can make up, so that what it has made anew counts against the original's quota.
    """

    key: str
    ref: SourceRef
    plan: Plan
    groups: tuple[str, ...] = ()
    metered: bool = False


@dataclass(frozen=True, slots=True)
class Edition:
    """How this server makes pictures, as a part of every key: what another setting made is not a hit of ours.

    `tags` are no part of it: they only tell what is purged together.
    """

    name: str
    tags: Tags = NO_TAGS

    @classmethod
    def of(cls, quality: Quality, tags: Tags = NO_TAGS) -> "Edition":
        return cls(sha256(repr(quality).encode()).hexdigest()[: identity.EDITION_DIGITS], tags)

    def key(self, ref: SourceRef, plan: Plan) -> str:
        return identity.key(ref, plan, edition=self.name)

    def order(self, request: ImageRequest, offers: tuple[str, ...], *, save_data: bool = False) -> Order:
        """What a request asks for, once a client's offers and hints are known."""
        output = negotiation.negotiate(request.plan.output, offers, save_data=save_data)
        plan = identity.normalise(replace(request.plan, output=output))
        key = self.key(request.ref, plan)
        groups = groups_of(request.ref, key=key, tags=self.tags.of_path(request.ref.path))
        return Order(key, request.ref, plan, groups, metered=not request.signed)


@dataclass(frozen=True, slots=True)
class Served:
    """`tier` had it; "" when it was made for this request."""

    rendition: Rendition
    outcome: Literal["hit", "stale", "joined", "rendered"]
    tier: TierName | Literal[""] = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A record found. `current`: of its original as it is now, as far as anybody can tell."""

    rendition: Rendition
    tier: TierName
    current: bool


@dataclass(frozen=True, slots=True)
class Rendered:
    """One finished render, for whoever observes; `queue_seconds` is its wait for a slot."""

    result: RenderResult
    queue_seconds: float
    render_seconds: float


@dataclass(frozen=True, slots=True)
class ImageService:
    """One source per name. `observe` is told of each render that ended well, `observe_failure` of the others.

    A picture past its soft end is answered as it is and renewed behind the answer. One whose original has changed is
    made anew, and answered only when that cannot be done (502, 503, 504). One that was purged is never answered.
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
    quota: Quota
    refusals: Refusals
    observe: Callable[[Rendered], None]
    observe_failure: Callable[[Work, ImgserverError], None]
    rules: Rules = field(default_factory=Rules)

    def at_hand(self, order: Order) -> Rendition | None:
        """A picture that can be answered at once: kept, fresh, and its original was looked at a moment ago."""
        seen = self.looks.recall(order.ref)
        if seen is None:
            return None
        rendition = self.cache.at_hand(order.key)
        if rendition is None:
            return None
        if rendition.fingerprint != seen or _is_due(rendition):
            self.cache.take_back()
            return None
        return rendition

    async def get(self, order: Order, criticality: Criticality = Criticality.NORMAL) -> Served:
        """Raises what the source, the waiting room and the engine raise; see `errors.py`."""
        await self._refuse_again(order)
        kept = await self._kept(order)
        if kept is None or not kept.current:
            return await self._fresh(order, criticality, former=kept)
        if _is_due(kept.rendition):
            await self.behind.start(order.key, lambda: self._fly(order, Criticality.REFRESH))
        return Served(kept.rendition, "stale" if _is_stale(kept.rendition) else "hit", kept.tier)

    async def _fresh(self, order: Order, criticality: Criticality, *, former: Kept | None) -> Served:
        """A picture made now. Where that cannot be, or not again so soon, the one of before is better than none."""
        try:
            rendition, joined = await self._fly(order, criticality)
        except ImgserverError as error:
            # What was purged while this failed is not answered either.
            passing = _will_pass(error) or isinstance(error, QuotaExceeded)
            if not passing or former is None or not self.cache.marks.are_current(former.rendition.marks):
                raise
            return Served(former.rendition, "stale", former.tier)
        return Served(rendition, "joined" if joined else "rendered")

    async def _refuse_again(self, order: Order) -> None:
        """Raises what this was refused with a moment ago, as long as its original is what it was.

        A flood of one bad URL costs one look per second and a render now and then.
        """
        marks = self.cache.marks.at(order.groups)
        absent = self.refusals.recall(order.ref, self._marks_of_original(order))
        if absent is not None:
            raise self.refusals.repeat(absent)
        refusal = self.refusals.recall(order.key, marks)
        if refusal is None:
            return
        if await self._is_as_it_was(order, refusal.state):
            raise self.refusals.repeat(refusal)
        self.refusals.forget(order.key)

    async def _is_as_it_was(self, order: Order, state: Fingerprint | None) -> bool:
        """Whether the original is in that state. While its source is away, it counts as being so."""
        try:
            return (self.looks.recall(order.ref) or await self._look(order)) == state
        except ImgserverError as error:
            if not _will_pass(error):
                raise
            return True

    async def optimise(self, original: Original, plan: Plan) -> RenderResult:
        """A picture that is nobody's source, such as an upload: never kept, never joined. `plan` is negotiated.

        Raises what the waiting room and the engine raise. Equal bytes are set aside together.
        """
        with self.admission.enter(Criticality.BATCH) as ticket:
            job = Job(original.path, plan, self.limits, self.quality, goal="optimise")
            return (await self._work(job, original, ticket, key=f"upload {original.fingerprint}")).result

    async def _fly(self, order: Order, criticality: Criticality) -> tuple[Rendition, bool]:
        """Keyed by the purge marks as well: who asks after a purge never joins a flight from before it."""
        flight = (order.key, self.cache.marks.at(order.groups))
        if not order.metered or criticality is Criticality.REFRESH or self.flights.is_aloft(flight):
            return await self.flights.join(flight, lambda: self._make_once(order, criticality))
        self.quota.take(order.ref)
        try:
            return await self.flights.join(flight, lambda: self._make_once(order, criticality))
        except (NotFound, Overloaded):
            self.quota.give_back(order.ref)
            raise

    async def _kept(self, order: Order) -> Kept | None:
        """The cached picture. While its source is away, it counts as current."""
        found = await self.cache.find(order.key, order.groups)
        if found is None:
            return None
        rendition, tier = found
        if not _covers(rendition.marks, order.groups):
            self.cache.drop(order.key)
            return None
        if self.looks.recall(order.ref) == rendition.fingerprint:
            return Kept(rendition, tier, current=True)
        try:
            return Kept(rendition, tier, current=await self._look(order) == rendition.fingerprint)
        except ImgserverError as error:
            if not _will_pass(error):
                raise
            return Kept(rendition, tier, current=True)

    async def _look(self, order: Order) -> Fingerprint:
        try:
            async with _at_most(LOOK_SECONDS):
                fingerprint = await self._source(order.ref).fingerprint(order.ref.path)
        except NotFound as error:
            self.cache.drop(order.key)
            self._note_absence(order, error)
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
            kept = await self._kept(order)
            if kept is not None and kept.current:
                return kept.rendition
        try:
            rendition = await self._make(order, criticality)
            await self.cache.written(order.key, seconds=WRITTEN_SECONDS)
            return rendition
        finally:
            await lock.release(order.key, turn)

    async def _make(self, order: Order, criticality: Criticality) -> Rendition:
        self.rules.allow(order.plan)
        began = time.monotonic()
        await self._bring(order, criticality)
        bring_seconds = time.monotonic() - began
        with self.admission.enter(criticality, began=began) as ticket:
            marks = await self.cache.marks.note(order.groups)
            async with AsyncExitStack() as held:
                begun = time.monotonic()
                original = await self._open(order, held, ticket)
                fetch_seconds = bring_seconds + time.monotonic() - begun
                try:
                    rendition = await self._render(order, original, ticket, fetch_seconds)
                except ImgserverError as error:
                    # What is renewed behind answers still has a picture to answer with.
                    if criticality is not Criticality.REFRESH:
                        self.refusals.note(order.key, error, state=original.fingerprint, marks=marks)
                    raise
        rendition = self._aged(rendition, marks)
        self.refusals.forget(order.key)
        self.cache.put(order.key, rendition)
        return rendition

    async def _bring(self, order: Order, criticality: Criticality) -> None:
        """A far original is waited for outside the waiting room, or a slow origin would fill it and those who need only
        a worker were refused. The source bounds who waits here. For whom the room has no place, nothing is fetched."""
        self.admission.knock(criticality)
        with self._noting_absence(order):
            async with _at_most(self.admission.deadline_seconds):
                await self._source(order.ref).bring(order.ref.path)

    async def _open(self, order: Order, held: AsyncExitStack, ticket: Ticket) -> Original:
        """Within the ticket's deadline, which the worker's kill timer then keeps."""
        with self._noting_absence(order):
            async with _at_most(ticket.deadline - time.monotonic()):
                original = await held.enter_async_context(self._source(order.ref).open(order.ref.path))
        self.looks.note(order.ref, original.fingerprint)
        return original

    @contextmanager
    def _noting_absence(self, order: Order) -> Iterator[None]:
        try:
            yield
        except NotFound as error:
            self._note_absence(order, error)
            raise

    def _note_absence(self, order: Order, error: NotFound) -> None:
        """For about a second, so that what is put there is soon seen."""
        self.refusals.note(order.ref, error, state=None, marks=self._marks_of_original(order), grows=False)

    def _marks_of_original(self, order: Order) -> Marks:
        """Without that of this one picture, of which no other rendition knows."""
        return self.cache.marks.at(group for group in order.groups if not group.startswith("k"))

    def _aged(self, rendition: Rendition, marks: Marks) -> Rendition:
        ends = freshness.lifetime(
            created=rendition.created,
            soft_seconds=self.fresh_seconds,
            draw=random.random(),  # noqa: S311
        )
        return replace(rendition, fresh_until=ends.fresh_until, expires=ends.expires, marks=marks)

    async def _render(self, order: Order, original: Original, ticket: Ticket, fetch_seconds: float) -> Rendition:
        plan, limits = self.rules.permitted(order.plan, original.head), self.rules.limits(self.limits)
        job = Job(original.path, plan, limits, self.quality)
        rendered = await self._work(job, original, ticket, key=_suspect(order, original))
        timings = rendered.result.timings
        spent = timings.decode_seconds, timings.transform_seconds, timings.encode_seconds
        stages = Stages(rendered.queue_seconds, fetch_seconds, *spent)
        return replace(_rendition(rendered.result, original, rendered.render_seconds), stages=stages)

    async def _work(self, job: Job, original: Original, ticket: Ticket, *, key: str) -> Rendered:
        """One job in a slot, observed; `key` is what is set aside when it kills workers."""
        work = foresee(original.head, original.size_bytes, job.plan, quality=self.quality, limits=job.limits)
        async with ticket.slot(self.costs.estimate(work)):
            begun = time.monotonic()
            try:
                result = await self.workers.render(job, deadline=ticket.deadline, key=key)
            except ImgserverError as error:
                self.observe_failure(work, error)
                raise
        self.costs.observe(work, cpu_seconds=result.timings.cpu_seconds)
        rendered = Rendered(result, ticket.waited_seconds, time.monotonic() - begun)
        self.observe(rendered)
        return rendered

    def _source(self, ref: SourceRef) -> Source:
        return self.sources[ref.source]


def _suspect(order: Order, original: Original) -> str:
    """What is set aside when it kills workers: this state of the original, whatever is asked of it. By the rendition's
    key, a hostile file would take two workers for each option that can be put before it."""
    return f"{order.ref.source}/{order.ref.path} {original.fingerprint}"


def _will_pass(error: ImgserverError) -> bool:
    """502, 503, 504: the source or this server cannot now, which says nothing of the picture (RFC 5861, 4)."""
    return error.status in (502, 503, 504)


def _covers(marks: Marks, groups: tuple[str, ...]) -> bool:
    """Whether a purge of any of these groups would reach the record: not if it is from before a tag's rule."""
    return {group for group, _ in marks}.issuperset(groups)


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
