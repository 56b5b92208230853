"""Ctrl-C while the server starts. A terminal sends SIGINT to all its processes, so to the workers, too."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from tests.polling import wait_until
from tests.running_server import ROOT, SAMPLES, environment, is_worker


def has_threads(process: subprocess.Popen[bytes]) -> bool:
    """Whether the application is being made: the log has a thread."""
    return psutil.Process(process.pid).num_threads() > 1


def has_a_worker(process: subprocess.Popen[bytes]) -> bool:
    return any(is_worker(child) for child in psutil.Process(process.pid).children())


@pytest.mark.parametrize("reached", [has_threads, has_a_worker])
def test_an_early_interrupt_ends_the_server_quietly(tmp_path, reached: Callable[[subprocess.Popen[bytes]], bool]):
    process = subprocess.Popen(
        [sys.executable, "-m", "imgserver", "serve", str(SAMPLES), "--port", "0"],
        env={**environment(), "XDG_CACHE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    wait_until(lambda: reached(process), "the start has come so far", seconds=30)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)

    assert process.returncode in (0, 130)
    assert output == b""
    assert [line for line in errors.splitlines() if not line.startswith(b"{")] == []
