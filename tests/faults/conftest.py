"""Real workers for tests that damage them, a small disk, and checks of processes."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from imgserver.engine.job import Job, RenderResult
from imgserver.rendering.admission import Admission, AdmissionSettings
from imgserver.rendering.cost import Cost
from imgserver.rendering.worker_pool import WorkerPool, WorkerSettings
from tests.faults import actions

QUEUE = AdmissionSettings(deadline_seconds=600, standing_seconds=60)


async def until(fact: Callable[[], bool], *, seconds: float = 5.0) -> None:
    """Polls `fact` until it holds. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not fact():
            await asyncio.sleep(0.002)


def is_alive(pid: int) -> bool:
    """False for a zombie, which only waits until its exit status is read."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


class ScheduledPool(WorkerPool):
    """A pool with a scheduler that refuses nothing for an estimate: what happens is the workers' doing."""

    def __init__(self, settings: WorkerSettings, **functions) -> None:
        super().__init__(settings, **functions)
        self.admission = Admission(QUEUE, pool=self)

    async def render_by(self, deadline: float, job: Job, *, key: str) -> RenderResult:
        """Waits for a worker and renders; `deadline` in seconds of time.monotonic()."""
        with self.admission.enter(began=deadline - QUEUE.deadline_seconds) as ticket:
            return await self.render(job, ticket=ticket, cost=Cost(0.0), key=key)


@asynccontextmanager
async def running(work=actions.perform, opener=actions.opener, on_event=lambda event: None, **settings):
    workers = ScheduledPool(WorkerSettings(**{"count": 2, **settings}), work=work, opener=opener, on_event=on_event)
    await workers.start()
    try:
        yield workers
    finally:
        await workers.close(grace_seconds=0)


@pytest.fixture
async def workers():
    async with running() as workers:
        await workers.until_whole()
        yield workers


async def do(
    workers: ScheduledPool, action: str, argument: object = "", *, seconds: float = 10.0, key: str = ""
) -> str:
    """The answer of a worker that performs `action`."""
    job = actions.job(action, argument)
    result = await workers.render_by(time.monotonic() + seconds, job, key=key or job.path)
    return result.body.decode()


async def whole_again(workers: WorkerPool, *, without: int) -> float:
    """Waits until the worker with this pid is gone and the pool is whole; the seconds it took."""
    began = time.monotonic()
    await until(lambda: without not in workers.pids)
    async with asyncio.timeout(10):
        await workers.until_whole()
    return time.monotonic() - began


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A real file system of 1 MiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        (mount / "tmp").mkdir()
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], check=True)
