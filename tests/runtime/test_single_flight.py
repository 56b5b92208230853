import asyncio
from collections.abc import Awaitable, Callable

import pytest

from imgserver.errors import BrokenImage, Unavailable, drop_tracebacks
from imgserver.runtime.single_flight import SingleFlight
from tests.cycles import assert_no_cycles
from tests.faults.conftest import until


class Maker:
    """Counts its calls, and returns or raises when `finish` is set."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.running = asyncio.Event()
        self.finish = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> bytes:
        self.calls += 1
        self.running.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return b"picture"


@pytest.fixture
async def single_flight():
    single_flight: SingleFlight[bytes] = SingleFlight()
    yield single_flight
    await single_flight.close()


def callers(single_flight: SingleFlight[bytes], make: Callable[[], Awaitable[bytes]], count: int, key: str = "key"):
    return [asyncio.ensure_future(single_flight.run(key, make)) for _ in range(count)]


async def test_a_thousand_callers_share_one_flight(single_flight):
    make = Maker()
    tasks = callers(single_flight, make, 1000)
    await until(lambda: single_flight.statistics().waiting == 1000)
    make.finish.set()
    results = await asyncio.gather(*tasks)

    assert make.calls == 1
    assert {body for body, _ in results} == {b"picture"}
    assert sum(joined for _, joined in results) == 999 == single_flight.statistics().coalesced


async def test_different_keys_do_not_share_a_flight(single_flight):
    make = Maker()
    make.finish.set()
    await asyncio.gather(*callers(single_flight, make, 1, "one"), *callers(single_flight, make, 1, "other"))

    assert make.calls == 2


async def test_a_result_is_not_cached(single_flight):
    make = Maker()
    make.finish.set()
    await single_flight.run("key", make)
    _, joined = await single_flight.run("key", make)

    assert not joined
    assert make.calls == 2
    assert single_flight.statistics().in_flight == 0


async def test_a_cancelled_caller_does_not_cancel_the_flight(single_flight):
    make = Maker()
    leader, *followers = callers(single_flight, make, 3)
    await make.running.wait()
    leader.cancel()
    await asyncio.wait([leader])
    make.finish.set()

    assert leader.cancelled()
    assert await asyncio.gather(*followers) == [(b"picture", True)] * 2
    assert (make.calls, make.cancelled) == (1, 0)


async def test_the_flight_is_cancelled_with_its_last_caller(single_flight):
    make = Maker()
    tasks = callers(single_flight, make, 3)
    await make.running.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await until(lambda: make.cancelled == 1)

    assert single_flight.statistics().in_flight == 0


async def test_a_flight_that_is_being_cancelled_is_not_joined(single_flight):
    old, new = Maker(), Maker()
    (caller,) = callers(single_flight, old, 1)
    await old.running.wait()
    caller.cancel()
    await asyncio.wait([caller])
    new.finish.set()

    assert await single_flight.run("key", new) == (b"picture", False)


async def test_all_callers_share_a_failure_and_it_is_not_cached(single_flight):
    make = Maker()
    make.error = BrokenImage("truncated")
    tasks = callers(single_flight, make, 50)
    await make.running.wait()
    make.finish.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    make.error = None

    assert {type(result) for result in results} == {BrokenImage}
    assert make.calls == 1
    assert await single_flight.run("key", make) == (b"picture", False)


async def test_close_fails_waiting_and_new_callers_with_unavailable(single_flight):
    make = Maker()
    (task,) = callers(single_flight, make, 1)
    await make.running.wait()
    await single_flight.close()

    with pytest.raises(Unavailable):
        await task
    with pytest.raises(Unavailable):
        await single_flight.run("key", make)
    assert make.cancelled == 1


class LookUp:
    """Returns the number of its call when `finish` is set."""

    def __init__(self):
        self.calls = 0
        self.finish = asyncio.Event()

    async def __call__(self):
        self.calls += 1
        await self.finish.wait()
        return self.calls


async def inline_callers(single_flight, look_up, count):
    tasks = [asyncio.create_task(single_flight.run_inline("key", look_up)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_concurrent_inline_callers_share_one_call():
    single_flight, look_up = SingleFlight(), LookUp()
    tasks = await inline_callers(single_flight, look_up, 50)
    look_up.finish.set()

    assert await asyncio.gather(*tasks) == [1] * 50
    assert look_up.calls == 1
    assert (single_flight.statistics().in_flight, single_flight.statistics().coalesced) == (0, 49)


async def test_different_keys_do_not_share_an_inline_call():
    single_flight, look_up = SingleFlight(), LookUp()
    look_up.finish.set()

    await asyncio.gather(single_flight.run_inline("a", look_up), single_flight.run_inline("b", look_up))
    assert look_up.calls == 2


async def test_the_result_of_an_inline_call_is_not_cached():
    single_flight, look_up = SingleFlight(), LookUp()
    look_up.finish.set()

    results = [await single_flight.run_inline("key", look_up), await single_flight.run_inline("key", look_up)]
    assert results == [1, 2]


async def test_none_is_a_shared_result():
    single_flight, calls = SingleFlight(), []

    async def nothing():
        calls.append(1)
        await asyncio.sleep(0)

    assert await asyncio.gather(*(single_flight.run_inline("key", nothing) for _ in range(3))) == [None] * 3
    assert len(calls) == 1


async def test_when_the_first_inline_caller_is_cancelled_the_next_one_takes_over():
    single_flight, look_up = SingleFlight(), LookUp()
    first, *others = await inline_callers(single_flight, look_up, 10)
    first.cancel()
    await asyncio.wait([first])
    look_up.finish.set()

    assert await asyncio.gather(*others) == [2] * 9
    assert look_up.calls == 2


async def test_only_the_first_inline_caller_sees_its_failure():
    single_flight = SingleFlight()
    calls = []

    async def fails_once():
        calls.append(1)
        await asyncio.sleep(0)
        if len(calls) == 1:
            raise OSError("first call")
        return "found"

    first, *others = await inline_callers(single_flight, fails_once, 5)

    with pytest.raises(OSError, match="first"):
        await first
    assert await asyncio.gather(*others) == ["found"] * 4


async def test_a_waiting_inline_caller_may_be_cancelled():
    single_flight, look_up = SingleFlight(), LookUp()
    first, second, third = await inline_callers(single_flight, look_up, 3)
    second.cancel()
    await asyncio.wait([second])
    look_up.finish.set()

    assert [await first, await third] == [1, 1]


async def test_a_flight_that_fails_leaves_no_cycle_of_objects():
    """A cycle would hold the frames of the request, with its texts, until the collector of cycles runs."""
    flights = SingleFlight[int]()

    async def fail() -> int:
        raise BrokenImage

    async def attempt() -> None:
        try:
            await flights.run("key", fail)
        except BrokenImage as error:
            drop_tracebacks(error)

    await assert_no_cycles(attempt)
    await flights.close()
