import asyncio
import contextlib
import threading

import pytest

from imgserver.errors import Unavailable
from imgserver.runtime.threads import PoolBusy, ThreadPool
from tests.cycles import assert_no_cycles
from tests.faults.conftest import until


@pytest.fixture
def release():
    """Ends the work of every blocked thread."""
    release = threading.Event()
    yield release
    release.set()


@pytest.fixture
def pool():
    pool = ThreadPool(1, "test", max_pending=2)
    yield pool
    pool.close()


async def test_work_runs_in_a_thread_of_that_name(pool):
    assert (await pool.run(lambda: threading.current_thread().name)).startswith("test")


async def test_an_exception_of_the_work_is_raised_in_the_caller(pool):
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 // 0)


async def test_at_max_pending_more_work_is_refused_until_a_thread_is_done(pool, release):
    first = asyncio.create_task(pool.run(release.wait))
    second = asyncio.create_task(pool.run(release.wait))
    await asyncio.sleep(0)

    with pytest.raises(PoolBusy):
        await pool.run(lambda: None)
    release.set()
    await asyncio.gather(first, second)
    assert await pool.run(lambda: "done") == "done"


async def test_a_cancelled_caller_keeps_its_place_until_its_thread_is_done(pool, release):
    running = threading.Event()
    task = asyncio.create_task(pool.run(lambda: (running.set(), release.wait())))
    await asyncio.to_thread(running.wait)
    task.cancel()
    await asyncio.wait([task])
    waiting = pool.submit(lambda: None)

    with pytest.raises(PoolBusy):
        pool.submit(lambda: None)
    release.set()
    await asyncio.wrap_future(waiting)


async def test_the_result_of_a_cancelled_call_is_undone(pool, release):
    undone = []
    running = threading.Event()

    def work() -> str:
        running.set()
        release.wait()
        return "descriptor"

    task = asyncio.create_task(pool.run(work, undo=undone.append))
    await asyncio.to_thread(running.wait)
    task.cancel()
    await asyncio.wait([task])
    release.set()

    await until(lambda: undone == ["descriptor"])


async def test_drain_waits_for_work_that_must_be_completed(pool, release):
    done = []
    task = asyncio.create_task(pool.run_to_completion(lambda: (release.wait(), done.append(1))))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    release.set()
    await pool.drain(10)

    assert done == [1]


async def test_drain_does_not_wait_longer_than_it_may(pool, release):
    pool.submit_to_completion(lambda: release.wait() and None)
    await pool.drain(0.0)

    assert not release.is_set()


async def test_a_closed_pool_refuses_work_and_drops_what_waits(pool, release):
    running = threading.Event()
    pool.submit(lambda: (running.set(), release.wait()))
    await asyncio.to_thread(running.wait)
    waiting = pool.submit(lambda: None)
    pool.close()

    assert waiting.cancelled()
    with pytest.raises(Unavailable):
        pool.submit(lambda: None)


async def test_work_that_fails_leaves_no_cycle_of_objects(pool):
    def fail() -> None:
        raise OSError

    async def attempt() -> None:
        with contextlib.suppress(OSError):
            await pool.run(fail)

    await assert_no_cycles(attempt)
