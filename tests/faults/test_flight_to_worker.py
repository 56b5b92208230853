"""Faults 18, 19, 20, 28, 29 on the path of a miss: single flight, ticket, worker."""

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


class MissPath:
    """Single flight, admission and worker pool, combined as in the service."""

    def __init__(self, workers, **settings) -> None:
        self.workers = workers
        self.flights = SingleFlight[str]()
        self.admission = Admission(AdmissionSettings(**settings), pool=workers)

    def request(
        self, action: str, argument: object = "", *, key: str = "", decoded_bytes: int = 0
    ) -> "asyncio.Task[str]":
        async def make() -> str:
            with self.admission.enter() as ticket:
                job, cost = actions.job(action, argument), Cost(0.01, decoded_bytes)
                result = await self.workers.render(job, ticket=ticket, cost=cost, key=key or job.path)
                return result.body.decode()

        async def wait() -> str:
            result, _ = await self.flights.run(key or f"{action} {argument}", make)
            return result

        return asyncio.ensure_future(wait())


@pytest.fixture
async def path(workers):
    path = MissPath(workers)
    yield path
    await path.flights.close()


async def begun(mark) -> int:
    await until(lambda: mark.exists() and bool(mark.read_text()))
    return int(mark.read_text())


async def leave(*tasks) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_thousand_concurrent_misses_of_one_key_cost_one_render(path):
    results = await asyncio.gather(*(path.request("inspect", "pid") for _ in range(1000)))

    assert len(set(results)) == 1
    assert path.workers.statistics().renders == 1
    assert path.flights.statistics().coalesced == 999
    assert path.admission.statistics().admitted == 1


async def test_followers_are_answered_although_the_leader_disconnects(path, tmp_path):
    mark = tmp_path / "mark"
    leader, *followers = (path.request("nap", f"0.3,{mark}") for _ in range(3))
    await begun(mark)
    await leave(leader)

    assert await asyncio.gather(*followers) == ["rested", "rested"]
    assert path.workers.statistics().renders == 1


async def test_an_abandoned_render_is_killed_and_only_then_its_slot_is_free(path, tmp_path):
    mark, next_mark = tmp_path / "mark", tmp_path / "next"
    other = path.request("nap", 30)
    requests = [path.request("nap", f"30,{mark}") for _ in range(3)]
    pid = await begun(mark)
    waiting = path.request("nap", f"0,{next_mark}")
    await until(lambda: path.admission.statistics().waiting == 1)
    await leave(*requests)
    await begun(next_mark)

    assert pid not in path.workers.pids
    await until(lambda: not is_alive(pid), seconds=0.5)
    assert await waiting == "rested"
    assert path.workers.statistics().restarts["abandoned"] == 1
    await leave(other)


async def test_a_render_abandoned_while_queued_never_starts(path, tmp_path):
    mark = tmp_path / "mark"
    busy = [path.request("nap", 0.3, key=key) for key in "ab"]
    await until(lambda: path.admission.statistics().running == 2)
    requests = [path.request("nap", f"0,{mark}") for _ in range(5)]
    await until(lambda: path.admission.statistics().waiting == 1)
    await leave(*requests)
    await until(lambda: path.admission.statistics().waiting == 0)
    await asyncio.gather(*busy)

    assert not mark.exists()
    assert path.workers.statistics().renders == 2
    assert path.flights.statistics().in_flight == 0


async def test_a_hanging_render_fails_its_own_flight_only():
    async with running() as workers:
        path = MissPath(workers, deadline_seconds=0.6)
        began = time.monotonic()
        stuck = [path.request("stop") for _ in range(10)]
        fine = await asyncio.gather(*(path.request("fine", number) for number in range(20)))
        results = await asyncio.gather(*stuck, return_exceptions=True)

        assert fine == [str(number) for number in range(20)]
        assert {type(result) for result in results} == {DeadlineExceeded}
        assert time.monotonic() - began == pytest.approx(0.6, abs=0.3)
        assert path.admission.statistics().running == 0


async def test_every_request_is_answered_while_workers_are_killed(path):
    tasks = [path.request("nap", 0.03, key=str(number)) for number in range(60)]
    for _ in range(4):
        await until(lambda: path.workers.statistics().busy == 2 or all(task.done() for task in tasks))
        for pid in path.workers.pids[:1]:
            # On a busy machine it may be gone before its death is noticed.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await path.workers.until_whole()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert results == ["rested"] * 60
    assert path.admission.statistics().waiting == path.admission.statistics().running == 0


async def test_large_renders_run_one_after_another_while_small_ones_overtake(workers, tmp_path):
    path = MissPath(workers, max_decoded_bytes=100)
    marks = [tmp_path / "first", tmp_path / "second"]
    large = [path.request("nap", f"0.4,{mark}", decoded_bytes=80) for mark in marks]
    await begun(marks[0])
    small = await asyncio.gather(*(path.request("fine", number, decoded_bytes=2) for number in range(5)))

    assert small == ["0", "1", "2", "3", "4"]
    assert not marks[1].exists()
    assert await asyncio.gather(*large) == ["rested", "rested"]


async def test_a_jump_of_the_wall_clock_changes_nothing(path, monkeypatch):
    real = time.time
    tasks = [path.request("nap", 0.2, key=key) for key in "abcd"]
    await until(lambda: path.workers.statistics().busy == 2)
    for hours in (1, -1):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + hours * 3600)
        assert await path.request("fine", hours) == str(hours)

    assert await asyncio.gather(*tasks) == ["rested"] * 4
    assert sum(path.workers.statistics().restarts.values()) == 0
