"""The story of one picture: found in the cache, joined in flight, or rendered."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from imgserver.admission import Admission, Criticality, Ticket
from imgserver.caches.memory import MemoryCache
from imgserver.cost import CostModel, Work
from imgserver.engine.job import Job, Limits, Quality, RenderResult
from imgserver.errors import DeadlineExceeded, ImgserverError, NotFound
from imgserver.estimate import foresee
from imgserver.flights import Flights
from imgserver.plan import Plan, SourceRef
from imgserver.rendition import Fingerprint, Original, Rendition
from imgserver.sources import Source
from imgserver.sources.looks import RecentLooks
from imgserver.workers import Workers

# A look at an original is one system call; a file system that hangs must not hold every visitor for ever.
LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """A wish after negotiation: nothing in it depends on a header any more."""

    key: str
    ref: SourceRef
    plan: Plan


@dataclass(frozen=True, slots=True)
class Served:
    rendition: Rendition
    outcome: Literal["hit", "joined", "rendered"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One finished render, for whoever observes; `queue_seconds` is its wait for a slot."""

    result: RenderResult
    queue_seconds: float
    render_seconds: float


@dataclass(frozen=True, slots=True)
class ImageService:
    """One source per name. `observe` is told of each render that ended well, `observe_failure` of the others."""

    sources: dict[str, Source]
    cache: MemoryCache
    looks: RecentLooks
    flights: Flights[Rendition]
    admission: Admission
    workers: Workers
    costs: CostModel
    limits: Limits
    quality: Quality
    observe: Callable[[Rendered], None]
    observe_failure: Callable[[Work, ImgserverError], None]

    def at_hand(self, order: Order) -> Rendition | None:
        """A picture that can be answered at once: kept, and its original was looked at a moment ago."""
        seen = self.looks.recall(order.ref)
        if seen is None:
            return None
        rendition = self.cache.get(order.key)
        return rendition if rendition is not None and rendition.fingerprint == seen else None

    async def get(self, order: Order, criticality: Criticality = Criticality.NORMAL) -> Served:
        """Raises what the source, the waiting room and the engine raise; see `errors.py`."""
        rendition = await self._kept(order)
        if rendition is not None:
            return Served(rendition, "hit")
        rendition, joined = await self.flights.join(order.key, lambda: self._make(order, criticality))
        return Served(rendition, "joined" if joined else "rendered")

    async def _kept(self, order: Order) -> Rendition | None:
        """The cached picture, if its original has not changed since."""
        rendition = self.cache.get(order.key)
        if rendition is None:
            return None
        if await self._look(order) == rendition.fingerprint:
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

    async def _make(self, order: Order, criticality: Criticality) -> Rendition:
        with self.admission.enter(criticality) as ticket:
            async with AsyncExitStack() as held:
                # Before the ticket's deadline, which the worker's kill timer then keeps.
                async with _at_most(ticket.deadline - time.monotonic()):
                    original = await held.enter_async_context(self._source(order.ref).open(order.ref.path))
                self.looks.note(order.ref, original.fingerprint)
                rendition = await self._render(order, original, ticket)
        self.cache.put(order.key, rendition)
        return rendition

    async def _render(self, order: Order, original: Original, ticket: Ticket) -> Rendition:
        job = Job(original.path, order.plan, self.limits, self.quality)
        work = foresee(original.head, original.fingerprint.size, order.plan, quality=self.quality, limits=self.limits)
        async with ticket.slot(self.costs.estimate(work)):
            begun = time.monotonic()
            try:
                result = await self.workers.render(job, deadline=ticket.deadline, key=order.key)
            except ImgserverError as error:
                self.observe_failure(work, error)
                raise
        seconds = time.monotonic() - begun
        self.costs.observe(work, cpu_seconds=result.timings.cpu_seconds)
        self.observe(Rendered(result, ticket.waited_seconds, seconds))
        return _rendition(result, original, seconds)

    def _source(self, ref: SourceRef) -> Source:
        return self.sources[ref.source]


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
        created=time.time(),
        render_seconds=seconds,
    )
