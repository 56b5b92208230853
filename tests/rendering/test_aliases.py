"""Aliases of originals, with a clock that tests advance."""

from dataclasses import replace

import pytest

from imgserver.errors import ImgserverError, NotFound, Unavailable
from imgserver.plan.plan import Plan, SourceRef
from imgserver.rendering.aliases import MAX_ENTRIES, Aliases
from imgserver.rendering.variants import RenderRequest

LINK, REAL = SourceRef("photos", "link.jpg"), SourceRef("photos", "real.jpg")
REQUEST = RenderRequest("key of the link", LINK, Plan())


class Scene:
    def __init__(self) -> None:
        self.now = 0.0
        self.target: SourceRef | ImgserverError = REAL
        self.identified = 0
        self.aliases = Aliases(lambda: self.now)

    async def identify(self, _: SourceRef) -> SourceRef:
        self.identified += 1
        if isinstance(self.target, ImgserverError):
            raise self.target
        return self.target

    async def resolve(self, request: RenderRequest = REQUEST) -> SourceRef:
        def rename(request: RenderRequest, ref: SourceRef) -> RenderRequest:
            return replace(request, key=f"key of {ref.path}", ref=ref)

        return (await self.aliases.resolve(request, identify=self.identify, rename=rename)).ref


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_an_alias_is_known_for_a_second(scene):
    assert [await scene.resolve(), await scene.resolve()] == [REAL, REAL]
    assert scene.aliases.find(REQUEST).ref == REAL
    assert scene.identified == 1
    scene.now += 1
    assert scene.aliases.find(REQUEST) is None
    assert await scene.resolve() == REAL
    assert scene.identified == 2


async def test_an_alias_that_leads_elsewhere_is_followed(scene):
    await scene.resolve()
    scene.target, scene.now = SourceRef("photos", "other.jpg"), 1.0

    assert await scene.resolve() == SourceRef("photos", "other.jpg")


async def test_the_last_known_name_is_used_while_the_source_fails(scene):
    await scene.resolve()
    scene.target, scene.now = Unavailable(), 100.0

    assert await scene.resolve() == REAL


@pytest.mark.parametrize("error", [NotFound(), Unavailable()])
async def test_an_original_whose_name_is_not_known_has_its_own(scene, error):
    scene.target = error

    assert await scene.resolve() == LINK


async def test_only_aliases_are_stored_and_their_number_is_bounded(scene):
    scene.target = LINK
    await scene.resolve()
    assert len(scene.aliases) == 0

    scene.target = REAL
    for number in range(MAX_ENTRIES + 10):
        await scene.resolve(replace(REQUEST, key=str(number)))
    assert len(scene.aliases) == MAX_ENTRIES
