import asyncio
from collections.abc import Awaitable, Callable

import pytest

from imgserver.errors import BrokenImage, Unavailable
from imgserver.runtime.single_flight import Flights
from tests.faults.conftest import until


class Maker:
    """Counts what it is asked to make, and lands when told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.running = asyncio.Event()
        self.land = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> bytes:
        self.calls += 1
        self.running.set()
        try:
            await self.land.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return b"picture"


@pytest.fixture
async def flights():
    flights: Flights[bytes] = Flights()
    yield flights
    await flights.close()


def joiners(flights: Flights[bytes], make: Callable[[], Awaitable[bytes]], count: int, key: str = "key"):
    return [asyncio.ensure_future(flights.join(key, make)) for _ in range(count)]


async def test_a_thousand_joiners_share_one_flight(flights):
    make = Maker()
    tasks = joiners(flights, make, 1000)
    await until(lambda: flights.statistics().waiting == 1000)
    make.land.set()
    results = await asyncio.gather(*tasks)

    assert make.calls == 1
    assert {body for body, _ in results} == {b"picture"}
    assert sum(joined for _, joined in results) == 999 == flights.statistics().coalesced


async def test_keys_do_not_share(flights):
    make = Maker()
    make.land.set()
    await asyncio.gather(*joiners(flights, make, 1, "one"), *joiners(flights, make, 1, "other"))

    assert make.calls == 2


async def test_nothing_is_remembered_after_landing(flights):
    make = Maker()
    make.land.set()
    await flights.join("key", make)
    _, joined = await flights.join("key", make)

    assert not joined
    assert make.calls == 2
    assert flights.statistics().aloft == 0


async def test_a_leaver_does_not_cancel_the_flight(flights):
    make = Maker()
    leader, *followers = joiners(flights, make, 3)
    await make.running.wait()
    leader.cancel()
    await asyncio.wait([leader])
    make.land.set()

    assert leader.cancelled()
    assert await asyncio.gather(*followers) == [(b"picture", True)] * 2
    assert (make.calls, make.cancelled) == (1, 0)


async def test_the_flight_is_cancelled_when_the_last_waiter_leaves(flights):
    make = Maker()
    tasks = joiners(flights, make, 3)
    await make.running.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await until(lambda: make.cancelled == 1)

    assert flights.statistics().aloft == 0


async def test_a_flight_all_have_left_is_not_joined(flights):
    old, new = Maker(), Maker()
    (leaver,) = joiners(flights, old, 1)
    await old.running.wait()
    leaver.cancel()
    await asyncio.wait([leaver])
    new.land.set()

    assert await flights.join("key", new) == (b"picture", False)


async def test_a_failure_is_told_once_to_all_and_not_remembered(flights):
    make = Maker()
    make.error = BrokenImage("truncated")
    tasks = joiners(flights, make, 50)
    await make.running.wait()
    make.land.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    make.error = None

    assert {type(result) for result in results} == {BrokenImage}
    assert make.calls == 1
    assert await flights.join("key", make) == (b"picture", False)


async def test_closing_tells_waiters_and_refuses_newcomers(flights):
    make = Maker()
    (task,) = joiners(flights, make, 1)
    await make.running.wait()
    await flights.close()

    with pytest.raises(Unavailable):
        await task
    with pytest.raises(Unavailable):
        await flights.join("key", make)
    assert make.cancelled == 1
