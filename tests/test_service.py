"""The story of one picture, with a source and workers that do what they are told."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from imgserver import service
from imgserver.admission import Admission, AdmissionSettings
from imgserver.behind import Behind
from imgserver.caches.memory import MemorySettings
from imgserver.caches.tiered import assemble
from imgserver.cost import CostModel
from imgserver.engine.job import Limits, Quality, RenderResult, Timings
from imgserver.errors import BrokenImage, DeadlineExceeded, NotFound
from imgserver.flights import Flights
from imgserver.plan import Dims, Plan, SourceRef
from imgserver.rendition import Fingerprint, Original
from imgserver.service import ImageService, Order
from imgserver.sources.looks import TRUST_SECONDS, RecentLooks

ORDER = Order("key", SourceRef("photos", "cat.png"), Plan())


class Shelf:
    """A source of one picture, of a state that tests change."""

    def __init__(self) -> None:
        self.state: int | None = 1
        self.hangs = False
        self.opened = self.looked = 0

    @asynccontextmanager
    async def open(self, path: str):
        self.opened += 1
        yield Original("/nowhere", b"", await self._fingerprint(), 7)

    async def fingerprint(self, path: str) -> Fingerprint:
        self.looked += 1
        return await self._fingerprint()

    async def _fingerprint(self) -> Fingerprint:
        if self.hangs:
            await asyncio.Event().wait()
        if self.state is None:
            raise NotFound()
        return Fingerprint(size=4, modified_ns=self.state, inode=1)


class Hands:
    """Workers that answer at once, with a body that counts."""

    def __init__(self) -> None:
        self.renders = 0
        self.fault: Exception | None = None

    async def render(self, job, *, deadline: float, key: str) -> RenderResult:
        self.renders += 1
        if self.fault is not None:
            raise self.fault
        body = str(self.renders).encode()
        return RenderResult(body, "image/png", "0" * 32, Dims(1, 1), "png", Dims(1, 1), 4, Timings(cpu_seconds=0.01))


class Scene:
    def __init__(self, **queue) -> None:
        self.now = 0.0
        self.shelf, self.hands, self.seen, self.failed = Shelf(), Hands(), [], []
        self.service = ImageService(
            sources={"photos": self.shelf},
            cache=assemble(MemorySettings()),
            looks=RecentLooks(lambda: self.now),
            flights=Flights(),
            admission=Admission(AdmissionSettings(**queue), slots=1),
            workers=self.hands,
            costs=CostModel(),
            limits=Limits(),
            quality=Quality(),
            fresh_seconds=3600.0,
            behind=Behind(),
            observe=self.seen.append,
            observe_failure=lambda work, error: self.failed.append(error),
        )

    async def get(self) -> tuple[str, bytes]:
        served = await self.service.get(ORDER)
        return served.outcome, served.rendition.body

    def let_looks_grow_old(self) -> None:
        self.now += TRUST_SECONDS + 0.1


@pytest.fixture
async def scene():
    scene = Scene()
    yield scene
    await scene.service.flights.close()


async def test_a_picture_is_rendered_once_and_then_kept(scene):
    assert await scene.get() == ("rendered", b"1")
    assert await scene.get() == ("hit", b"1")
    assert len(scene.seen) == scene.shelf.opened == 1


async def test_a_picture_is_at_hand_while_its_original_was_seen_a_moment_ago(scene):
    await scene.get()

    assert scene.service.at_hand(ORDER).body == b"1"
    assert scene.shelf.looked == 0
    scene.let_looks_grow_old()
    assert scene.service.at_hand(ORDER) is None


async def test_a_changed_original_is_rendered_anew(scene):
    await scene.get()
    scene.shelf.state = 2
    scene.let_looks_grow_old()

    assert await scene.get() == ("rendered", b"2")


async def test_a_vanished_originals_picture_is_forgotten(scene):
    await scene.get()
    scene.shelf.state = None
    scene.let_looks_grow_old()

    with pytest.raises(NotFound):
        await scene.get()
    assert scene.service.cache.statistics().entries == 0


async def test_visitors_of_one_cold_picture_join(scene):
    results = await asyncio.gather(*(scene.get() for _ in range(5)))

    assert sorted(outcome for outcome, _ in results) == ["joined"] * 4 + ["rendered"]
    assert scene.hands.renders == 1


async def test_a_failure_is_not_remembered_and_gives_back_place_and_slot(scene):
    scene.hands.fault = BrokenImage()
    with pytest.raises(BrokenImage):
        await scene.get()
    scene.hands.fault = None

    assert await scene.get() == ("rendered", b"2")
    queue = scene.service.admission.statistics()
    assert (queue.waiting, queue.running, queue.admitted) == (0, 0, 2)


async def test_a_source_that_hangs_ends_at_the_deadline():
    scene = Scene(deadline_seconds=0.1)
    scene.shelf.hangs = True

    with pytest.raises(DeadlineExceeded):
        await scene.get()
    assert scene.service.admission.statistics().waiting == 0
    await scene.service.flights.close()


async def test_a_kept_pictures_source_that_hangs_is_not_waited_for_long(scene, monkeypatch):
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.05)
    await scene.get()
    scene.let_looks_grow_old()
    scene.shelf.hangs = True

    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(scene.get(), 5)
