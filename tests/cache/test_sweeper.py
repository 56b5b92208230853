"""Sweeps in the background, one at a time."""

import asyncio

import pytest

from imgserver.cache import sweeper as module
from imgserver.cache.sweeper import Sweeper
from imgserver.cache.tier import SweepResult
from tests.polling import eventually


class FakeTier:
    """Finishes a sweep when a test lets it."""

    def __init__(self) -> None:
        self.sweeps: list[frozenset[str]] = []
        self.permits = asyncio.Semaphore(0)
        self.fault: Exception | None = None

    async def sweep(self, groups: frozenset[str]) -> SweepResult:
        self.sweeps.append(groups)
        await self.permits.acquire()
        if self.fault is not None:
            raise self.fault
        return SweepResult(len(groups))


@pytest.fixture
async def tier():
    return FakeTier()


@pytest.fixture
async def sweeper(tier):
    sweeper = Sweeper(tier.sweep)
    work = asyncio.create_task(sweeper.run())
    yield sweeper
    work.cancel()
    await asyncio.wait([work])


async def test_a_request_returns_the_result_of_its_sweep(tier, sweeper):
    tier.permits.release()

    assert await sweeper.request({"a", "b"}, seconds=5) == SweepResult(2)


async def test_a_request_that_times_out_returns_running(tier, sweeper):
    assert await sweeper.request({"a"}, seconds=0.01) == SweepResult(incomplete="running")
    tier.permits.release()
    tier.permits.release()
    assert await sweeper.request({"b"}, seconds=5) == SweepResult(1)
    assert tier.sweeps == [{"a"}, {"b"}]


async def test_requests_during_a_sweep_share_the_next_one(tier, sweeper):
    first = asyncio.create_task(sweeper.request({"a"}, seconds=5))
    await eventually(lambda: tier.sweeps)
    others = [asyncio.create_task(sweeper.request({name}, seconds=5)) for name in "abc"]
    await asyncio.sleep(0)
    tier.permits.release()
    tier.permits.release()

    assert await first == SweepResult(1)
    assert await asyncio.gather(*others) == [SweepResult(3)] * 3
    assert tier.sweeps == [{"a"}, {"a", "b", "c"}]


@pytest.mark.parametrize("more", [[()], [("b",), ("c",)]], ids=["everything", "too many groups"])
async def test_a_request_for_everything_or_for_too_many_groups_searches_everything(tier, sweeper, more, monkeypatch):
    monkeypatch.setattr(module, "MAX_GROUPS", 2)
    tier.permits.release()
    tier.permits.release()
    await asyncio.gather(sweeper.request({"a"}, seconds=5), *(sweeper.request(groups, seconds=5) for groups in more))

    assert tier.sweeps == [frozenset()]


async def test_a_failed_sweep_is_reported_and_the_sweeper_goes_on(tier, sweeper, caplog):
    tier.fault = RuntimeError("broken")
    tier.permits.release()
    assert await sweeper.request({"a"}, seconds=5) == SweepResult(incomplete="failed")
    tier.fault = None
    tier.permits.release()
    assert await sweeper.request({"a"}, seconds=5) == SweepResult(1)
    assert "cache.sweep_failed" in caplog.text


async def test_cancelling_the_sweeper_fails_waiting_requests(tier):
    sweeper = Sweeper(tier.sweep)
    work = asyncio.create_task(sweeper.run())
    first = asyncio.create_task(sweeper.request({"a"}, seconds=60))
    await eventually(lambda: tier.sweeps)
    next_one = asyncio.create_task(sweeper.request({"b"}, seconds=60))
    await asyncio.sleep(0)
    work.cancel()

    assert await asyncio.wait_for(asyncio.gather(first, next_one), 5) == [SweepResult(incomplete="failed")] * 2
