"""One render, from the original to the rendition: fetch, admission, open, estimate, worker."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from imgserver.engine.frame_count import count_frames
from imgserver.engine.job import Job, Limits, Quality, RenderResult
from imgserver.engine.readable import readable_format
from imgserver.errors import DeadlineExceeded, ImgserverError, Overloaded
from imgserver.plan.canonical import version_of
from imgserver.plan.plan import Plan, SourceRef
from imgserver.plan.rendition import Fingerprint, Original, Rendition, Stages
from imgserver.rendering.admission import Admission, Ticket
from imgserver.rendering.client_queue import Criticality, Requester
from imgserver.rendering.cost import CostModel, Workload, estimate_workload, may_animate
from imgserver.rendering.format_policy import FormatPolicy
from imgserver.rendering.variants import RenderRequest
from imgserver.rendering.worker_pool import WorkerPool
from imgserver.runtime.ttl_map import TtlMap
from imgserver.sources import Source
from imgserver.sources.undecodable import lacks_beginning

# Reading a fingerprint is one system call; a file system that hangs must not hold every request forever.
FINGERPRINT_SECONDS = 2.0
# While the server is overloaded, a refusal waits no longer than this for the first bytes of its original.
HEAD_SECONDS = 0.05
# A replaced original is served as it was for at most this long: within it, hits do not check the source again.
FINGERPRINT_TTL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FinishedRender:
    """A render that succeeded, for metrics. `queue_seconds`: its wait for a worker."""

    result: RenderResult
    queue_seconds: float
    render_seconds: float


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders without knowing the cache. `sources` has one source per name. `observe` receives each render that
    succeeded, `observe_failure` each that failed in a worker or cannot be read by one.

    Its methods raise what the source, admission and the engine raise (see `errors.py`).
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

    async def render(
        self,
        request: RenderRequest,
        requester: Requester,
        *,
        on_failure: Callable[[ImgserverError, Fingerprint], None],
    ) -> Rendition:
        """Fetches the original and renders it. Before it raises an error about an original that it could open, it
        passes the error and the original's fingerprint to `on_failure`, after the source has judged the error."""
        self.format_policy.check_output(request.plan)
        began = time.monotonic()
        # A remote original is fetched before the request takes a place in the render queue. Otherwise a slow origin
        # would fill the queue, and requests that need only a worker would be refused. The source bounds its own queue.
        # A request that the render queue would refuse does not fetch at all.
        criticality, client = requester.criticality, requester.client
        try:
            self.admission.check_capacity(criticality, client=client)
        except Overloaded:
            await self._refuse_unreadable(request.ref)
            raise
        async with _source_timeout(self.admission.deadline_seconds):
            await self.sources[request.ref.source].fetch(request.ref.path)
        with self.admission.enter(criticality, client=client, began=began) as ticket:
            async with self._open(request.ref, ticket, on_failure) as original:
                fetch_seconds = time.monotonic() - began
                return await self._render_original(request, original, ticket, fetch_seconds)

    async def optimize(self, original: Original, plan: Plan, *, client: str = "") -> RenderResult:
        """Optimizes a file that belongs to no source, such as an upload. The result is neither cached nor shared.

        `plan` is negotiated. `client`: whose share of the workers the render counts against. Files with equal bytes
        share one quarantine key.
        """
        with self.admission.enter(Criticality.BATCH, client=client) as ticket:
            job = Job(original.path, plan, self.limits, self.quality, goal="optimize")
            return (await self._run(job, original, ticket, key=f"upload {original.fingerprint}")).result

    async def identify(self, ref: SourceRef) -> SourceRef:
        """The reference that stands for all names of one original or folder (see `Source.identity`)."""
        async with _source_timeout(FINGERPRINT_SECONDS):
            path = await self.sources[ref.source].identity(ref.path)
        return ref if path == ref.path else SourceRef(ref.source, path)

    async def read_fingerprint(self, ref: SourceRef) -> Fingerprint:
        """The present fingerprint of an original, from its source. Raises DeadlineExceeded after two seconds, in time
        for callers that can serve a cached rendition instead."""
        async with _source_timeout(FINGERPRINT_SECONDS):
            fingerprint = await self.sources[ref.source].fingerprint(ref.path)
        self.fingerprints.put(ref, fingerprint)
        return fingerprint

    @asynccontextmanager
    async def _open(
        self, ref: SourceRef, ticket: Ticket, on_failure: Callable[[ImgserverError, Fingerprint], None]
    ) -> AsyncIterator[Original]:
        """The original, opened before the ticket's deadline and held open inside the block."""
        original: Original | None = None
        try:
            async with AsyncExitStack() as stack:
                async with _source_timeout(ticket.deadline - time.monotonic()):
                    original = await stack.enter_async_context(self.sources[ref.source].open(ref.path))
                self.fingerprints.put(ref, original.fingerprint)
                yield original
        except ImgserverError as error:
            if original is not None:
                on_failure(error, original.fingerprint)
            raise

    async def _refuse_unreadable(self, ref: SourceRef) -> None:
        """Raises UnsupportedImage for a local original that no worker can read: it needs no place in the queue, so that
        overload is no reason to refuse it. Not for a file that may still be being written."""
        head = None
        with suppress(ImgserverError):
            async with _source_timeout(HEAD_SECONDS):
                head = await self.sources[ref.source].head(ref.path)
        if head is not None and not lacks_beginning(head):
            readable_format(head, svg=self.limits.svg)

    async def _render_original(
        self, request: RenderRequest, original: Original, ticket: Ticket, fetch_seconds: float
    ) -> Rendition:
        plan = self.format_policy.permitted_plan(request.plan, original.head)
        limits, version = self.format_policy.limits(self.limits), version_of(original.fingerprint)
        job = Job(original.path, plan, limits, self.quality, version=version)
        # All renditions of one state of the original share the key: otherwise a hostile file could kill two workers for
        # each option that a URL can put before it.
        key = f"{request.ref.source}/{request.ref.path} {original.fingerprint}"
        return _rendition(await self._run(job, original, ticket, key=key), original, fetch_seconds)

    async def _run(self, job: Job, original: Original, ticket: Ticket, *, key: str) -> FinishedRender:
        """Runs one job in a worker when it is the ticket's turn. `key` is quarantined if the job kills workers."""
        frames = await _count_frames(original, job.plan, ticket)
        work = estimate_workload(
            original.head, original.size_bytes, job.plan, quality=self.quality, limits=job.limits, frames=frames
        )
        queued = time.monotonic()
        try:
            # What no worker can read does not wait for one.
            readable_format(original.head, svg=job.limits.svg)
            result = await self.workers.render(job, ticket=ticket, cost=self.costs.estimate(work), key=key)
        except Overloaded:
            raise  # refused by the queue: no render failed
        except ImgserverError as error:
            self.observe_failure(work, error)
            raise
        self.costs.observe(_real_workload(work, result), cpu_seconds=result.timings.cpu_seconds)
        waited_seconds = ticket.waited_seconds
        finished = FinishedRender(result, waited_seconds, time.monotonic() - queued - waited_seconds)
        self.observe(finished)
        return finished


async def _count_frames(original: Original, plan: Plan, ticket: Ticket) -> int:
    """The frames that a worker would decode, from the structure of the file."""
    if not may_animate(original.head, plan):
        return 1
    async with _source_timeout(ticket.deadline - time.monotonic()):
        return await asyncio.to_thread(count_frames, original.path)


@asynccontextmanager
async def _source_timeout(seconds: float) -> AsyncIterator[None]:
    """Raises DeadlineExceeded if the block, which waits for a source, takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded("The source took too long") from error


def _real_workload(work: Workload, result: RenderResult) -> Workload:
    """The workload with the real size of the original, which the first bytes may not have shown."""
    size = result.source_size
    return replace(work, source_width=size.width, source_height=size.height, frames=result.size.frames)


def _rendition(finished: FinishedRender, original: Original, fetch_seconds: float) -> Rendition:
    result, timings = finished.result, finished.result.timings
    return Rendition(
        body=result.body,
        media_type=result.media_type,
        etag=result.etag,
        size=result.size,
        source_format=result.source_format,
        source_size=result.source_size,
        fingerprint=original.fingerprint,
        modified=original.modified,
        max_age_seconds=original.max_age_seconds,
        cache_policy=original.cache_policy,
        created=time.time(),
        render_seconds=finished.render_seconds,
        stages=Stages(
            finished.queue_seconds,
            fetch_seconds,
            timings.decode_seconds,
            timings.transform_seconds,
            timings.encode_seconds,
        ),
    )
