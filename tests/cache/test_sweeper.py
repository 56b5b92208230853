"""Sweeper behind those who ask: one at a time, gathered, and told honestly."""

import asyncio

import pytest

from imgserver.cache import sweeper as module
from imgserver.cache.sweeper import Sweeper, SweepResult
from tests.polling import eventually


class Tier:
    """Sweeper when it is let."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []
        self.let = asyncio.Semaphore(0)
        self.fault: Exception | None = None

    async def sweep(self, groups: frozenset[str]) -> SweepResult:
        self.asked.append(groups)
        await self.let.acquire()
        if self.fault is not None:
            raise self.fault
        return SweepResult(len(groups))


@pytest.fixture
async def tier():
    return Tier()


@pytest.fixture
async def sweeps(tier):
    sweeps = Sweeper(tier.sweep)
    work = asyncio.create_task(sweeps.work())
    yield sweeps
    work.cancel()
    await asyncio.wait([work])


async def test_a_sweep_is_told_to_who_waits_for_it(tier, sweeps):
    tier.let.release()

    assert await sweeps.ask({"a", "b"}, seconds=5) == SweepResult(2)


async def test_who_does_not_wait_so_long_hears_that_it_is_going_on(tier, sweeps):
    assert await sweeps.ask({"a"}, seconds=0.01) == SweepResult(incomplete="running")
    tier.let.release()
    tier.let.release()
    assert await sweeps.ask({"b"}, seconds=5) == SweepResult(1)
    assert tier.asked == [{"a"}, {"b"}]


async def test_what_is_asked_for_during_a_sweep_is_one_sweep_after_it(tier, sweeps):
    first = asyncio.create_task(sweeps.ask({"a"}, seconds=5))
    await eventually(lambda: tier.asked)
    others = [asyncio.create_task(sweeps.ask({name}, seconds=5)) for name in "abc"]
    await asyncio.sleep(0)
    tier.let.release()
    tier.let.release()

    assert await first == SweepResult(1)
    assert await asyncio.gather(*others) == [SweepResult(3)] * 3
    assert tier.asked == [{"a"}, {"a", "b", "c"}]


@pytest.mark.parametrize("more", [[()], [("b",), ("c",)]], ids=["everything", "too many groups"])
async def test_everything_is_searched_when_asked_for_or_of_too_many_groups(tier, sweeps, more, monkeypatch):
    monkeypatch.setattr(module, "GROUPS_LIMIT", 2)
    tier.let.release()
    tier.let.release()
    await asyncio.gather(sweeps.ask({"a"}, seconds=5), *(sweeps.ask(groups, seconds=5) for groups in more))

    assert tier.asked == [frozenset()]


async def test_a_sweep_that_breaks_is_told_and_ends_nothing(tier, sweeps, caplog):
    tier.fault = RuntimeError("broken")
    tier.let.release()
    assert await sweeps.ask({"a"}, seconds=5) == SweepResult(incomplete="failed")
    tier.fault = None
    tier.let.release()
    assert await sweeps.ask({"a"}, seconds=5) == SweepResult(1)
    assert "A sweep failed" in caplog.text


async def test_who_waits_at_the_end_hears_that_it_failed(tier):
    sweeps = Sweeper(tier.sweep)
    work = asyncio.create_task(sweeps.work())
    asked = asyncio.create_task(sweeps.ask({"a"}, seconds=60))
    await eventually(lambda: tier.asked)
    next_one = asyncio.create_task(sweeps.ask({"b"}, seconds=60))
    await asyncio.sleep(0)
    work.cancel()

    assert await asyncio.wait_for(asyncio.gather(asked, next_one), 5) == [SweepResult(incomplete="failed")] * 2
