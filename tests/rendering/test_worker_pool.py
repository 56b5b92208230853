"""The worker pool in normal operation. Faults are in tests/faults."""

import ast
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvloop

from imgserver.errors import BrokenImage, DeadlineExceeded, Overloaded, Unavailable
from imgserver.rendering.worker_pool import WorkerPool, WorkerSettings
from tests.faults import actions
from tests.faults.conftest import do, is_alive, running, until, whole_again, workers

__all__ = ["workers"]


async def test_slots_and_a_spare_are_warm(workers):
    statistics = workers.statistics()

    assert (statistics.idle, statistics.spare, statistics.busy, statistics.starting) == (2, 1, 0, 0)
    assert workers.ready
    assert workers.count == 2
    assert workers.codecs == actions.opener()
    assert all(rss > 1_000_000 for rss in statistics.rss_bytes.values())
    assert repr(workers) == "<WorkerPool 0 starting, 3 idle, 0 busy; 2 slots, 0 restarts>"


async def test_large_results_arrive_complete(workers):
    result = await workers.render_by(time.monotonic() + 10, actions.job("large", 20), key="large")

    assert len(result.body) == 20_000_000


async def test_errors_of_the_engine_arrive_unchanged(workers):
    with pytest.raises(BrokenImage) as broken:
        await do(workers, "raise_ours")

    assert (broken.value.detail, broken.value.facts) == ("The source ends too early", {"at": 17})


async def test_busy_seconds_and_renders_are_counted(workers):
    await do(workers, "nap", 0.1)

    assert workers.statistics().renders == 1
    assert 0.1 <= workers.statistics().busy_seconds < 1


async def test_a_deadline_already_past_costs_no_worker(workers):
    with pytest.raises(DeadlineExceeded):
        await do(workers, "fine", seconds=-1)

    assert sum(workers.statistics().restarts.values()) == 0


async def test_waiting_for_a_worker_ends_at_the_deadline(workers):
    busy = [asyncio.ensure_future(do(workers, "nap", 0.4, key=key)) for key in "ab"]
    await until(lambda: workers.statistics().busy == 2)
    with pytest.raises(Overloaded) as refused:
        await do(workers, "fine", seconds=0.1)

    assert refused.value.facts["reason"] == "deadline"
    assert await asyncio.gather(*busy) == ["rested"] * 2
    assert sum(workers.statistics().restarts.values()) == 0


async def test_workers_are_recycled_after_their_renders():
    async with running(recycle_renders=3) as workers:
        await workers.until_whole()
        pids = [await do(workers, "inspect", "pid") for _ in range(4)]

        assert pids[0] == pids[1] == pids[2] != pids[3]
        await whole_again(workers, without=int(pids[0]))
        assert workers.statistics().restarts["recycle"] == 1


async def test_workers_with_too_much_memory_are_recycled():
    async with running(recycle_rss_bytes=64 << 20) as workers:
        await do(workers, "grow", 100)

        assert workers.statistics().restarts["rss"] == 1
        await workers.until_whole()


async def test_closing_lets_renders_end_within_the_grace():
    async with running() as workers:
        task = asyncio.ensure_future(do(workers, "nap", 0.2))
        await until(lambda: workers.statistics().busy == 1)
        pids = workers.pids
        await workers.close(grace_seconds=5)

        assert await task == "rested"
        assert not any(map(is_alive, pids))


async def test_closing_kills_renders_that_outlast_the_grace():
    async with running() as workers:
        task = asyncio.ensure_future(do(workers, "loop", seconds=60))
        await until(lambda: workers.statistics().busy == 1)
        began = time.monotonic()
        await workers.close(grace_seconds=0.1)

        with pytest.raises(Unavailable):
            await task
        assert time.monotonic() - began < 1
        with pytest.raises(Unavailable):
            await do(workers, "fine")


async def test_temporary_folders_of_workers_are_removed():
    async with running() as workers:
        environment = ast.literal_eval(await do(workers, "inspect", "environment"))
        folder = Path(environment["TMPDIR"])
        assert folder.is_dir()
        await workers.close(grace_seconds=1)

        assert not folder.exists()


# What a worker sets for itself


async def test_a_worker_has_resource_limits_before_its_first_job(workers):
    limits = ast.literal_eval(await do(workers, "inspect", "limits"))

    assert limits["RLIMIT_AS"] == (1 << 30, 1 << 30)
    assert limits["RLIMIT_NOFILE"] == (128, 128)
    assert limits["RLIMIT_FSIZE"] == (256 << 20, 256 << 20)
    assert limits["RLIMIT_CORE"] == (0, 0)
    assert 1 <= limits["RLIMIT_CPU"][0] <= 30


def test_a_worker_accepts_a_lower_cpu_limit_of_the_host():
    code = (
        "import resource as r; from imgserver.engine import sandbox; "
        "r.setrlimit(r.RLIMIT_CPU, (20, 20)); sandbox._limit_cpu(600); print(r.getrlimit(r.RLIMIT_CPU))"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "(20, 20)\n"


async def test_a_worker_has_a_lower_priority_than_the_server(workers):
    assert int(await do(workers, "inspect", "nice")) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    assert int(await do(workers, "inspect", "oom")) >= 800
    assert int(await do(workers, "inspect", "session")) == os.getsid(0)


async def test_a_worker_uses_one_thread_and_two_arenas(workers):
    environment = ast.literal_eval(await do(workers, "inspect", "environment"))

    assert (environment["VIPS_CONCURRENCY"], environment["MALLOC_ARENA_MAX"]) == ("1", "2")
    assert "VIPS_CONCURRENCY" not in os.environ


async def test_a_worker_gains_no_privileges_and_ignores_the_terminal(workers):
    status = dict(line.split(":\t", 1) for line in (await do(workers, "inspect", "status")).splitlines())
    ignored = int(status["SigIgn"], 16)

    assert status["NoNewPrivs"] == "1"
    assert ignored & (1 << 1), "SIGINT"
    assert ignored & (1 << 14), "SIGTERM"
    assert await do(workers, "inspect", "streams") == "{'/dev/null'}"


SCRIPT = """
import ast, asyncio
import aiohttp.web
from tests.faults.conftest import do, running

async def main():
    async with running() as workers:
        modules = set(ast.literal_eval(await do(workers, "inspect", "modules")))
        assert not modules & {"aiohttp", "asyncio", "imgserver.rendering.worker_pool"}, modules
        assert await do(workers, "inspect", "main") == "None"

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_worker_loads_neither_the_servers_main_nor_its_libraries(tmp_path):
    """As the console script does it: a file with the server's imports at the top."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, script], check=True, timeout=30, env=environment)


PARENT = """
import asyncio, sys
from tests.faults import actions
from tests.faults.conftest import do, running

async def main():
    async with running(opener=actions.vips_opener) as workers:
        assert "'pyvips'" in await do(workers, "inspect", "modules")
        assert workers.codecs.version
    assert not {"pyvips", "_libvips", "imgserver.engine.vips"} & sys.modules.keys()

asyncio.run(main())
"""


def test_the_server_process_never_loads_pyvips():
    subprocess.run([sys.executable, "-c", PARENT], check=True, timeout=30)


def test_uvloop_works_as_well():
    async def live() -> None:
        async with running() as workers:
            await workers.until_whole()
            pid = workers.pids[0]
            os.kill(pid, 9)
            await whole_again(workers, without=pid)
            with pytest.raises(DeadlineExceeded):
                await do(workers, "stop", seconds=0.3)
            task = asyncio.ensure_future(do(workers, "nap", 0.05, seconds=0.3))
            await until(lambda: workers.statistics().busy == 1)
            time.sleep(0.6)  # this loop runs timers before it hears of finished work
            assert await task == "rested"
            assert await do(workers, "fine", "uvloop") == "uvloop"
            assert workers.statistics().restarts["timeout"] == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())


def test_an_explicit_count_wins_over_the_cpus():
    assert WorkerPool(WorkerSettings(count=7)).count == 7
    assert WorkerPool(WorkerSettings()).count >= 1
