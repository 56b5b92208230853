"""Faults 11, 12 and 30: no memory, no answer, an event loop that stood still; and work nobody waits for."""

import asyncio
import os
import signal
import time

import pytest

from imgserver.errors import DeadlineExceeded, ImageOverLimit, Quarantined, ServerFault
from tests.faults import actions
from tests.faults.conftest import do, is_alive, running, until, whole_again


@pytest.mark.parametrize("deed", ["stop", "loop", "nap"])
async def test_a_hanging_render_ends_at_the_deadline_and_frees_its_slot(workers, deed):
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await do(workers, deed, 30 if deed == "nap" else "", seconds=0.6)
    took = time.monotonic() - began
    await workers.until_whole()

    assert took == pytest.approx(0.6, abs=0.3)
    assert workers.statistics().restarts["timeout"] == 1
    assert await do(workers, "fine", "next") == "next"


async def test_a_worker_stopped_from_outside_is_killed_at_the_deadline(workers):
    for pid in workers.pids[:2]:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    results = await asyncio.gather(*(do(workers, "fine", seconds=0.5, key=key) for key in "ab"), return_exceptions=True)

    assert [type(result) for result in results] == [DeadlineExceeded] * 2
    assert time.monotonic() - began == pytest.approx(0.5, abs=0.3)
    await asyncio.gather(*(do(workers, "fine", seconds=5, key=key) for key in "ab"))


async def test_an_endless_render_ends_by_its_cpu_limit_if_the_server_cannot_kill(workers, monkeypatch):
    """The backstop for a server that is stopped itself: here its kill timer is taken away."""
    monkeypatch.setattr("imgserver.rendering.worker_pool._expire", lambda *_: None)
    with pytest.raises(DeadlineExceeded):
        await do(workers, "loop", seconds=0.3)

    assert workers.statistics().restarts["timeout"] == 1


async def test_out_of_memory_is_an_error_of_that_render_only(workers):
    hog, other = await asyncio.gather(do(workers, "hog"), do(workers, "fine", "fine"), return_exceptions=True)

    assert isinstance(hog, ImageOverLimit)
    assert other == "fine"
    assert sum(workers.statistics().restarts.values()) <= 1


async def test_an_abandoned_render_is_killed_and_its_death_awaited(workers, tmp_path):
    mark = tmp_path / "mark"
    task = asyncio.ensure_future(do(workers, "nap", f"30,{mark}"))
    await until(lambda: mark.exists() and bool(mark.read_text()))
    pid = int(mark.read_text())
    began = time.monotonic()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert pid not in workers.pids
    assert time.monotonic() - began < 0.5
    await until(lambda: not is_alive(pid), seconds=0.2)
    await whole_again(workers, without=pid)
    assert workers.statistics().restarts["abandoned"] == 1


async def test_a_caller_cancelled_again_and_again_still_awaits_the_death(workers, tmp_path):
    mark = tmp_path / "mark"
    task = asyncio.ensure_future(do(workers, "nap", f"30,{mark}"))
    await until(lambda: mark.exists() and bool(mark.read_text()))
    pid = int(mark.read_text())
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)

    assert task.cancelled()
    assert pid not in workers.pids
    await until(lambda: not is_alive(pid), seconds=0.2)


async def test_a_render_cancelled_while_queued_never_starts(workers, tmp_path):
    mark = tmp_path / "mark"
    busy = [asyncio.ensure_future(do(workers, "nap", 0.3, key=key)) for key in "ab"]
    await until(lambda: workers.statistics().busy == 2)
    leaver = asyncio.ensure_future(do(workers, "nap", f"0,{mark}"))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.wait([leaver])
    await asyncio.gather(*busy)
    await do(workers, "fine")

    assert not mark.exists()
    assert workers.statistics().renders == 3


async def test_a_blocked_event_loop_kills_no_render_that_ended_in_time(workers):
    task = asyncio.ensure_future(do(workers, "nap", 0.05, seconds=0.3))
    await until(lambda: workers.statistics().busy == 1)
    time.sleep(0.6)

    assert await task == "rested"
    assert sum(workers.statistics().restarts.values()) == 0


async def test_no_more_renders_than_slots_run_at_the_same_time(workers):
    asked = asyncio.gather(*(do(workers, "nap", 0.1, key=str(key)) for key in range(6)))
    seen = set()
    while not asked.done():
        seen.add(workers.statistics().busy)
        await asyncio.sleep(0.005)
    await asked

    assert max(seen) == 2


async def test_a_result_that_cannot_be_unpickled_costs_one_worker():
    async with running(work=actions.perform_raw) as workers:
        with pytest.raises(Quarantined):
            await workers.render_by(time.monotonic() + 5, actions.job("answer_unreadably"), key="odd")
        await workers.until_whole()
        await workers.render_by(time.monotonic() + 5, actions.job("fine"), key="even")


async def test_foreign_errors_arrive_as_server_faults_and_the_worker_survives(workers):
    with pytest.raises(ServerFault) as fault:
        await do(workers, "raise_foreign")

    assert "secret" not in str(fault.value)
    assert "secret" in str(fault.value.__cause__)
    assert sum(workers.statistics().restarts.values()) == 0
