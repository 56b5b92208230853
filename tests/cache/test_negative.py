"""The table of refusals, with a clock that tests turn."""

import traceback

import pytest

from imgserver import errors
from imgserver.cache.negative import LIMIT, NegativeCache
from imgserver.errors import BrokenImage, ImgserverError, UnsupportedImage
from imgserver.plan.rendition import Fingerprint

STATE, OTHER = Fingerprint("one"), Fingerprint("other")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock: Clock) -> NegativeCache:
    return NegativeCache(clock)


def seconds_held(refusals: NegativeCache, clock: Clock, error: ImgserverError, *, times: int) -> list[float]:
    """How long it held each time; it is noted anew the moment it ends."""
    held = []
    for _ in range(times):
        refusals.note("key", error, state=STATE, generations=())
        refusal = refusals.recall("key", ())
        assert refusal is not None
        held.append(refusal.seconds)
        clock.now += refusal.seconds
        assert refusals.recall("key", ()) is None
    return held


def test_it_holds_twice_as_long_each_time_up_to_what_caches_are_told(refusals, clock):
    assert seconds_held(refusals, clock, UnsupportedImage(), times=11) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_another_state_of_the_original_begins_anew(refusals, clock):
    seconds_held(refusals, clock, BrokenImage(), times=5)
    refusals.note("key", BrokenImage(), state=OTHER, generations=())

    assert refusals.recall("key", ()).seconds == 1


def test_other_marks_make_it_void(refusals):
    refusals.note("key", BrokenImage(), state=STATE, generations=(("a", ""),))

    assert refusals.recall("key", (("a", ""),)) is not None
    assert refusals.recall("key", (("a", "token"),)) is None


def kinds(of: type[ImgserverError] = ImgserverError) -> list[type[ImgserverError]]:
    return [of, *(kind for below in of.__subclasses__() for kind in kinds(below))]


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind.__module__ == errors.__name__])
def test_only_refusals_that_caches_may_keep_are_remembered(refusals, kind):
    refusals.note("key", kind(), state=STATE, generations=())

    assert (refusals.recall("key", ()) is not None) is (400 <= kind.status < 500 and kind.cache_seconds > 0)


def test_the_table_is_bounded_and_the_oldest_gives_way(refusals):
    for number in range(LIMIT + 10):
        refusals.note(number, BrokenImage(), state=STATE, generations=())

    assert refusals.statistics().remembered == LIMIT
    assert refusals.recall(9, ()) is None
    assert refusals.recall(10, ()) is not None


def test_each_repetition_is_an_error_of_its_own(refusals):
    refusals.note("key", BrokenImage("torn", at=3), state=STATE, generations=())
    refusal = refusals.recall("key", ())
    for _ in range(3):
        with pytest.raises(BrokenImage) as caught:
            raise refusals.repeat(refusal)

    assert (caught.value.detail, caught.value.facts) == ("torn", {"at": 3})
    assert len(traceback.extract_tb(caught.value.__traceback__)) == 1
    assert refusals.statistics().repeated == 3
