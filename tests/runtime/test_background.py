import asyncio
import logging

import pytest

from imgserver.errors import BrokenImage
from imgserver.runtime import background
from imgserver.runtime.background import BackgroundRefresh, BackgroundTasks
from tests.faults.conftest import until


class Clock:
    """A clock whose `sleep` returns immediately and moves it on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Failing:
    """Raises in its first calls, `seconds` after their start, then waits forever."""

    def __init__(self, clock: Clock, *, failures: int, seconds: float = 0.0) -> None:
        self.clock = clock
        self.failures = failures
        self.seconds = seconds
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        self.clock.now += self.seconds
        if self.calls <= self.failures:
            raise RuntimeError(f"failure {self.calls}")
        await asyncio.Event().wait()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def tasks(clock, failures):
    tasks = BackgroundTasks(
        on_failure=lambda task, error: failures.append((task, str(error))), clock=clock, sleep=clock.sleep
    )
    yield tasks
    await tasks.close()


async def test_a_failed_task_is_reported_and_restarted(tasks, clock, failures):
    work = Failing(clock, failures=2)
    await tasks.start("sweep", work)
    await until(lambda: work.calls == 3)

    assert failures == [("sweep", "failure 1"), ("sweep", "failure 2")]


async def test_the_pause_before_a_restart_doubles_up_to_a_minute(tasks, clock):
    work = Failing(clock, failures=9)
    await tasks.start("sweep", work)
    await until(lambda: work.calls == 10)

    assert clock.slept == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_the_pause_starts_anew_after_a_long_run(tasks, clock):
    work = Failing(clock, failures=3, seconds=background.LONGEST_PAUSE_SECONDS)
    await tasks.start("sweep", work)
    await until(lambda: work.calls == 4)

    assert clock.slept == [1, 1, 1]


async def test_a_task_that_returns_is_not_restarted(tasks):
    calls = []

    async def work() -> None:
        calls.append(1)

    await tasks.start("scan", work)
    for _ in range(5):
        await asyncio.sleep(0)

    assert len(calls) == 1


async def test_close_cancels_the_last_started_task_first(tasks):
    ended = []

    def work(name):
        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        return wait

    for name in ("first", "second", "third"):
        await tasks.start(name, work(name))
    await asyncio.sleep(0)
    await tasks.close()

    assert ended == ["third", "second", "first"]


async def test_a_task_that_runs_once_is_reported_and_not_restarted(tasks, clock, failures):
    work = Failing(clock, failures=1)
    await tasks.run_once("write", work)
    await until(lambda: failures)
    await asyncio.sleep(0)

    assert failures == [("write", "failure 1")]
    assert work.calls == 1


async def test_nothing_is_started_after_close(tasks, clock):
    work = Failing(clock, failures=1)
    await tasks.close()
    await tasks.run_once("write", work)

    assert work.calls == 0


def test_by_default_a_failure_is_an_event_in_the_log(caplog):
    with caplog.at_level(logging.ERROR):
        background.log_task_failure("sweep", RuntimeError("disk"))

    (record,) = caplog.records
    assert (record.getMessage(), record.task, record.error) == (
        "background.task_failed",
        "sweep",
        "RuntimeError('disk')",
    )


@pytest.fixture
async def refresh(clock, failures):
    refresh = BackgroundRefresh(on_failure=lambda task, error: failures.append((task, str(error))), clock=clock)
    yield refresh
    await refresh.close()


async def test_one_refresh_per_key_runs_at_a_time(refresh):
    calls = []

    async def work() -> None:
        calls.append(1)
        await asyncio.Event().wait()

    for _ in range(3):
        await refresh.start("key", work)
    await until(lambda: calls)

    assert len(calls) == 1
    assert (refresh.statistics().running, refresh.statistics().started, refresh.statistics().skipped) == (1, 1, 0)


async def test_refreshes_above_the_limit_are_skipped(refresh):
    for number in range(background.MAX_CONCURRENT + 2):
        await refresh.start(str(number), asyncio.Event().wait)

    assert (refresh.statistics().running, refresh.statistics().skipped) == (background.MAX_CONCURRENT, 2)


async def test_a_failed_key_pauses_for_a_second(refresh, clock, failures):
    calls = []

    async def work() -> None:
        calls.append(1)
        raise BrokenImage

    await refresh.start("key", work)
    await until(lambda: refresh.statistics().failed == 1)
    await refresh.start("key", work)
    clock.now += background.FAILURE_PAUSE_SECONDS
    await refresh.start("key", work)
    await until(lambda: refresh.statistics().failed == 2)

    assert (len(calls), refresh.statistics().skipped) == (2, 1)
    assert failures == []


async def test_an_unexpected_exception_of_a_refresh_is_reported_and_counted(refresh, failures):
    async def work() -> None:
        raise RuntimeError("bug")

    await refresh.start("key", work)
    await until(lambda: failures)

    assert failures == [("refresh", "bug")]
    assert (refresh.statistics().failed, refresh.statistics().running) == (1, 0)
