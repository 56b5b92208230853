"""An image service with a fake source and fake workers, for the tests of the service."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from imgserver.cache import build_cache
from imgserver.cache.memory import MemorySettings
from imgserver.cache.negative import NegativeCache
from imgserver.engine.job import Limits, Quality, RenderResult, Timings
from imgserver.errors import ImgserverError, NotFound
from imgserver.plan.plan import Dims, Plan, SourceRef
from imgserver.plan.rendition import CachePolicy, Fingerprint, Original
from imgserver.rendering.admission import Admission, AdmissionSettings
from imgserver.rendering.cost import CostModel
from imgserver.rendering.degradation import Degradation
from imgserver.rendering.renderer import FINGERPRINT_TTL_SECONDS, Renderer
from imgserver.rendering.variants import PipelineVersion, RenderRequest
from imgserver.runtime.background import BackgroundRefresh
from imgserver.runtime.single_flight import SingleFlight
from imgserver.runtime.ttl_map import TtlMap
from imgserver.security.rate_limit import Quota, QuotaSettings
from imgserver.service import ImageService
from imgserver.testing import make_rendition
from tests.free_workers import FreeWorkers

REQUEST = RenderRequest("key", SourceRef("photos", "cat.png"), Plan())


class FakeSource:
    """A source with one original. Tests change its `state`, or make it hang or fail."""

    def __init__(self) -> None:
        self.state: int | None = 1
        self.cache_policy = CachePolicy.SHARED
        self.hangs = False
        self.error: Exception | None = None
        self.held: asyncio.Event | None = None
        self.local_head: bytes | None = None
        self.opened = self.fingerprints_read = self.fetched = self.identified = 0
        self.aliases: dict[str, str] = {}

    async def fetch(self, path: str) -> None:
        self.fetched += 1
        if self.held is not None:
            await self.held.wait()

    @asynccontextmanager
    async def open(self, path: str):
        self.opened += 1
        fingerprint = await self._fingerprint()
        yield Original(
            "/nowhere", b"\xff\xd8\xff", fingerprint, size_bytes=4, modified=7, cache_policy=self.cache_policy
        )

    async def head(self, path: str) -> bytes | None:
        return self.local_head

    async def identity(self, path: str) -> str:
        self.identified += 1
        if self.error is not None:
            raise self.error
        return self.aliases.get(path, path)

    async def fingerprint(self, path: str) -> Fingerprint:
        self.fingerprints_read += 1
        return await self._fingerprint()

    async def _fingerprint(self) -> Fingerprint:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        if self.state is None:
            raise NotFound()
        return Fingerprint(f"state {self.state}")


class FakeWorkers(FreeWorkers):
    """Workers that answer immediately; the body is the number of the render."""

    def __init__(self) -> None:
        super().__init__(2)
        self.renders = 0
        self.time_left = 0.0
        self.error: Exception | None = None
        self.begun = asyncio.Event()
        self.held: asyncio.Event | None = None
        self._changed = asyncio.Condition()

    async def rendered(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.renders >= count)

    async def render(self, job, *, ticket, cost, key: str) -> RenderResult:
        async with ticket.slot(cost):
            return await self._render(ticket.deadline)

    async def _render(self, deadline: float) -> RenderResult:
        async with self._changed:
            self.renders += 1
            self._changed.notify_all()
        number = self.renders
        self.time_left = deadline - time.monotonic()
        self.begun.set()
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error
        body = str(number).encode()
        return RenderResult(
            body, "image/png", "0" * 32, Dims(1, 1), "png", Dims(5000, 5000), 4, Timings(cpu_seconds=0.01)
        )


class Scenario:
    """`now`: the clock of fingerprints, quota and negative cache. `finished`, `failed`: the observed renders."""

    def __init__(self, per_minute: int = 0, burst: int = 40, **queue) -> None:
        self.now = 0.0
        self.source, self.remote, self.workers = FakeSource(), FakeSource(), FakeWorkers()
        self.finished, self.failed = [], []
        renderer = Renderer(
            sources={"photos": self.source, "remote": self.remote},
            fingerprints=TtlMap(FINGERPRINT_TTL_SECONDS, clock=lambda: self.now),
            admission=Admission(AdmissionSettings(**queue), pool=self.workers),
            workers=self.workers,
            costs=CostModel(),
            limits=Limits(),
            quality=Quality(),
            observe=self.finished.append,
            observe_failure=lambda work, error: self.failed.append(error),
        )
        self.service = ImageService(
            cache=build_cache(MemorySettings()),
            flights=SingleFlight(),
            renderer=renderer,
            background=BackgroundRefresh(),
            pipeline_version=PipelineVersion.of(Quality()),
            quota=Quota(QuotaSettings(per_minute, burst), lambda: self.now),
            negative_cache=NegativeCache(lambda: self.now),
            degradation=Degradation(),
            fresh_seconds=3600.0,
        )

    async def get(self, request: RenderRequest = REQUEST) -> tuple[str, bytes]:
        served = await self.service.get(request)
        return served.outcome, served.rendition.body

    async def failing_get(self, request: RenderRequest = REQUEST) -> ImgserverError:
        with pytest.raises(ImgserverError) as caught:
            await self.service.get(request)
        return caught.value

    async def put_stale(self) -> None:
        fingerprint = await self.source.fingerprint("cat.png")
        self.service.cache.put(REQUEST.key, make_rendition(b"old", fingerprint=fingerprint, fresh_until=1.0))

    def expire_fingerprints(self) -> None:
        self.now += FINGERPRINT_TTL_SECONDS + 0.1
