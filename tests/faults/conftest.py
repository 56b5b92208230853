"""Real workers for tests that damage them, a small disk, and checks of processes."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from imgserver.rendering.worker_pool import WorkerPool, WorkerSettings
from tests.faults import actions


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


@asynccontextmanager
async def running(work=actions.perform, opener=actions.opener, on_event=lambda event: None, **settings):
    workers = WorkerPool(WorkerSettings(**{"count": 2, **settings}), work=work, opener=opener, on_event=on_event)
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


async def do(workers: WorkerPool, action: str, argument: object = "", *, seconds: float = 10.0, key: str = "") -> str:
    """The answer of a worker that performs `action`."""
    job = actions.job(action, argument)
    result = await workers.render(job, deadline=time.monotonic() + seconds, key=key or job.path)
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
