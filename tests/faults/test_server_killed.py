"""Fault 15: the server is killed. None of its child processes may survive, whatever they were doing."""

import asyncio
import logging
import signal
import subprocess
import sys
import time

import psutil

from tests.faults.conftest import is_alive, until

log = logging.getLogger(__name__)


async def test_no_child_outlives_a_killed_server(tmp_path):
    """One worker is idle, one busy, one stopped; the fourth child is the resource tracker of multiprocessing."""
    command = [sys.executable, "-m", "tests.faults.doomed_server", str(tmp_path)]
    server = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert server.stdout is not None
    async with asyncio.timeout(20):
        pids = [int(pid) for pid in (await server.stdout.readline()).split()]
    children = [child.pid for child in psutil.Process(server.pid).children(recursive=True)]
    await until(lambda: any(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids))
    server.send_signal(signal.SIGKILL)
    began = time.monotonic()
    await server.wait()
    await until(lambda: not any(map(is_alive, children)), seconds=1)
    log.info("all gone after %.0f ms", 1000 * (time.monotonic() - began))

    assert len(pids) == 3
    assert set(pids) < set(children)
