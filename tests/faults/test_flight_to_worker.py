"""Faults 18, 19, 20, 28, 29 along the way of a miss: flight, ticket, slot, worker."""

import asyncio
import os
import signal
import time
from contextlib import suppress

import pytest

from imgserver.errors import DeadlineExceeded
from imgserver.rendering.admission import Admission, AdmissionSettings
from imgserver.rendering.cost import Cost
from imgserver.runtime.single_flight import SingleFlight
from tests.faults import actions
from tests.faults.conftest import is_alive, running, until


class Way:
    """The way of a miss, as the service walks it."""

    def __init__(self, workers, **settings) -> None:
        self.workers = workers
        self.flights = SingleFlight[str]()
        self.admission = Admission(AdmissionSettings(**settings), pool=workers)

    def ask(self, deed: str, argument: object = "", *, key: str = "", decoded_bytes: int = 0) -> "asyncio.Task[str]":
        async def make() -> str:
            with self.admission.enter() as ticket:
                job, cost = actions.job(deed, argument), Cost(0.01, decoded_bytes)
                result = await self.workers.render(job, ticket=ticket, cost=cost, key=key or job.path)
                return result.body.decode()

        async def visit() -> str:
            result, _ = await self.flights.run(key or f"{deed} {argument}", make)
            return result

        return asyncio.ensure_future(visit())


@pytest.fixture
async def way(workers):
    way = Way(workers)
    yield way
    await way.flights.close()


async def begun(mark) -> int:
    await until(lambda: mark.exists() and bool(mark.read_text()))
    return int(mark.read_text())


async def leave(*tasks) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_thousand_visitors_of_one_cold_picture_cost_one_render(way):
    results = await asyncio.gather(*(way.ask("inspect", "pid") for _ in range(1000)))

    assert len(set(results)) == 1
    assert way.workers.statistics().renders == 1
    assert way.flights.statistics().coalesced == 999
    assert way.admission.statistics().admitted == 1


async def test_the_leaders_leaving_disturbs_nobody(way, tmp_path):
    mark = tmp_path / "mark"
    leader, *followers = (way.ask("nap", f"0.3,{mark}") for _ in range(3))
    await begun(mark)
    await leave(leader)

    assert await asyncio.gather(*followers) == ["rested", "rested"]
    assert way.workers.statistics().renders == 1


async def test_work_all_have_left_is_killed_and_only_then_its_slot_is_free(way, tmp_path):
    mark, next_mark = tmp_path / "mark", tmp_path / "next"
    other = way.ask("nap", 30)
    visitors = [way.ask("nap", f"30,{mark}") for _ in range(3)]
    pid = await begun(mark)
    waiting = way.ask("nap", f"0,{next_mark}")
    await until(lambda: way.admission.statistics().waiting == 1)
    await leave(*visitors)
    await begun(next_mark)

    assert pid not in way.workers.pids
    await until(lambda: not is_alive(pid), seconds=0.5)
    assert await waiting == "rested"
    assert way.workers.statistics().restarts["abandoned"] == 1
    await leave(other)


async def test_work_all_have_left_while_queued_never_starts(way, tmp_path):
    mark = tmp_path / "mark"
    busy = [way.ask("nap", 0.3, key=key) for key in "ab"]
    await until(lambda: way.admission.statistics().running == 2)
    visitors = [way.ask("nap", f"0,{mark}") for _ in range(5)]
    await until(lambda: way.admission.statistics().waiting == 1)
    await leave(*visitors)
    await until(lambda: way.admission.statistics().waiting == 0)
    await asyncio.gather(*busy)

    assert not mark.exists()
    assert way.workers.statistics().renders == 2
    assert way.flights.statistics().in_flight == 0


async def test_a_hang_costs_its_own_flight_only():
    async with running() as workers:
        way = Way(workers, deadline_seconds=0.6)
        began = time.monotonic()
        stuck = [way.ask("stop") for _ in range(10)]
        fine = await asyncio.gather(*(way.ask("fine", number) for number in range(20)))
        results = await asyncio.gather(*stuck, return_exceptions=True)

        assert fine == [str(number) for number in range(20)]
        assert {type(result) for result in results} == {DeadlineExceeded}
        assert time.monotonic() - began == pytest.approx(0.6, abs=0.3)
        assert way.admission.statistics().running == 0


async def test_every_visitor_is_answered_while_workers_are_killed(way):
    tasks = [way.ask("nap", 0.03, key=str(number)) for number in range(60)]
    for _ in range(4):
        await until(lambda: way.workers.statistics().busy == 2 or all(task.done() for task in tasks))
        for pid in way.workers.pids[:1]:
            # On a busy machine it may be gone before its death is noticed.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await way.workers.until_whole()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert results == ["rested"] * 60
    assert way.admission.statistics().waiting == way.admission.statistics().running == 0


async def test_large_pictures_run_one_after_another_while_small_ones_pass(workers, tmp_path):
    way = Way(workers, max_decoded_bytes=100)
    marks = [tmp_path / "first", tmp_path / "second"]
    large = [way.ask("nap", f"0.4,{mark}", decoded_bytes=80) for mark in marks]
    await begun(marks[0])
    small = await asyncio.gather(*(way.ask("fine", number, decoded_bytes=2) for number in range(5)))

    assert small == ["0", "1", "2", "3", "4"]
    assert not marks[1].exists()
    assert await asyncio.gather(*large) == ["rested", "rested"]


async def test_a_jump_of_the_wall_clock_changes_nothing(way, monkeypatch):
    real = time.time
    tasks = [way.ask("nap", 0.2, key=key) for key in "abcd"]
    await until(lambda: way.workers.statistics().busy == 2)
    for hours in (1, -1):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + hours * 3600)
        assert await way.ask("fine", hours) == str(hours)

    assert await asyncio.gather(*tasks) == ["rested"] * 4
    assert sum(way.workers.statistics().restarts.values()) == 0
