"""The making of one picture: its original is brought, a place and a slot are waited for, a worker renders it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from imgserver.engine.job import Job, Limits, Quality, RenderResult
from imgserver.errors import DeadlineExceeded, ImgserverError, Overloaded
from imgserver.plan.plan import Plan, SourceRef
from imgserver.plan.rendition import Fingerprint, Original, Rendition, Stages
from imgserver.rendering.admission import Admission, Criticality, Ticket
from imgserver.rendering.cost import CostModel, Workload, estimate_workload
from imgserver.rendering.format_policy import FormatPolicy
from imgserver.rendering.variants import RenderRequest
from imgserver.rendering.worker_pool import WorkerPool
from imgserver.runtime.ttl_map import TtlMap
from imgserver.sources import Source

# A look at an original is one system call; a file system that hangs must not hold every visitor for ever.
LOOK_SECONDS = 2.0
# A replaced original is served as it was for at most so long: within it, hits do not ask the source again.
FINGERPRINT_TTL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FinishedRender:
    """One finished render, for whoever observes; `queue_seconds` is its wait for a slot."""

    result: RenderResult
    queue_seconds: float
    render_seconds: float


@dataclass(frozen=True, slots=True)
class Renderer:
    """Knows nothing of what is kept. One source per name. `observe` is told of each render that ended well,
    `observe_failure` of the others.

    Its methods raise what the source, the waiting room and the engine raise; see `errors.py`.
    """

    sources: Mapping[str, Source]
    fingerprints: TtlMap[SourceRef, Fingerprint]
    admission: Admission
    workers: WorkerPool
    costs: CostModel
    limits: Limits
    quality: Quality
    observe: Callable[[FinishedRender], None]
    observe_failure: Callable[[Workload, ImgserverError], None]
    format_policy: FormatPolicy = field(default_factory=FormatPolicy)

    async def picture(
        self,
        order: RenderRequest,
        criticality: Criticality,
        *,
        on_refusal: Callable[[ImgserverError, Fingerprint], None],
    ) -> Rendition:
        """`on_refusal` is told what an original in this state was refused with, before it is raised."""
        self.format_policy.allow(order.plan)
        began = time.monotonic()
        await self._bring(order, criticality)
        bring_seconds = time.monotonic() - began
        with self.admission.enter(criticality, began=began) as ticket:
            begun = time.monotonic()
            async with self._opened(order, ticket) as original:
                fetch_seconds = bring_seconds + time.monotonic() - begun
                try:
                    return await self._render(order, original, ticket, fetch_seconds)
                except ImgserverError as error:
                    on_refusal(error, original.fingerprint)
                    raise

    async def optimize(self, original: Original, plan: Plan) -> RenderResult:
        """A picture that is nobody's source, such as an upload: never kept, never joined. `plan` is negotiated.

        Raises what the waiting room and the engine raise. Equal bytes are set aside together.
        """
        with self.admission.enter(Criticality.BATCH) as ticket:
            job = Job(original.path, plan, self.limits, self.quality, goal="optimize")
            return (await self._work(job, original, ticket, key=f"upload {original.fingerprint}")).result

    async def look(self, ref: SourceRef) -> Fingerprint:
        """The state of an original now, in time for those who have something to show meanwhile."""
        async with _at_most(LOOK_SECONDS):
            fingerprint = await self.sources[ref.source].fingerprint(ref.path)
        self.fingerprints.put(ref, fingerprint)
        return fingerprint

    async def _bring(self, order: RenderRequest, criticality: Criticality) -> None:
        """A far original is waited for outside the waiting room, or a slow origin would fill it and those who need only
        a worker were refused. The source bounds who waits here. For whom the room has no place, nothing is fetched."""
        self.admission.check_capacity(criticality)
        async with _at_most(self.admission.deadline_seconds):
            await self.sources[order.ref.source].fetch(order.ref.path)

    @asynccontextmanager
    async def _opened(self, order: RenderRequest, ticket: Ticket) -> AsyncIterator[Original]:
        """Within the ticket's deadline, which the worker's kill timer then keeps."""
        async with AsyncExitStack() as held:
            async with _at_most(ticket.deadline - time.monotonic()):
                original = await held.enter_async_context(self.sources[order.ref.source].open(order.ref.path))
            self.fingerprints.put(order.ref, original.fingerprint)
            yield original

    async def _render(
        self, order: RenderRequest, original: Original, ticket: Ticket, fetch_seconds: float
    ) -> Rendition:
        plan, limits = self.format_policy.permitted(order.plan, original.head), self.format_policy.limits(self.limits)
        job = Job(original.path, plan, limits, self.quality)
        rendered = await self._work(job, original, ticket, key=_suspect(order, original))
        timings = rendered.result.timings
        spent = timings.decode_seconds, timings.transform_seconds, timings.encode_seconds
        stages = Stages(rendered.queue_seconds, fetch_seconds, *spent)
        return replace(_rendition(rendered.result, original, rendered.render_seconds), stages=stages)

    async def _work(self, job: Job, original: Original, ticket: Ticket, *, key: str) -> FinishedRender:
        """One job in a slot, observed; `key` is what is set aside when it kills workers."""
        work = estimate_workload(original.head, original.size_bytes, job.plan, quality=self.quality, limits=job.limits)
        begun = time.monotonic()
        try:
            result = await self.workers.render(job, ticket=ticket, cost=self.costs.estimate(work), key=key)
        except Overloaded:
            raise  # the queue refused it; no render failed
        except ImgserverError as error:
            self.observe_failure(work, error)
            raise
        render_seconds = time.monotonic() - begun - ticket.waited_seconds
        self.costs.observe(work, cpu_seconds=result.timings.cpu_seconds)
        rendered = FinishedRender(result, ticket.waited_seconds, render_seconds)
        self.observe(rendered)
        return rendered


def _suspect(order: RenderRequest, original: Original) -> str:
    """What is set aside when it kills workers: this state of the original, whatever is asked of it. By the rendition's
    key, a hostile file would take two workers for each option that can be put before it."""
    return f"{order.ref.source}/{order.ref.path} {original.fingerprint}"


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
