"""How many functions and modules one request passes in the server process, from the socket to the bytes of the answer.

A profile hook (`sys.setprofile`) on the thread of the event loop records every Python function that is called between
the arrival of the request and the arrival of the answer. C functions, other threads and worker processes are not
counted.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any

from benchmarks.cache import redis_server
from benchmarks.harness import ROOT, SAMPLES, Row, free_port
from imgserver.settings.loader import load
from imgserver.web.server import serve

TARGET = "/img/w_{width},q_70/dogs.jpg"
# Functions that a request may pass at most, those of dependencies included.
HIT_FUNCTIONS, MISS_FUNCTIONS = 30, 675
# The least of several turns counts: periodic work of the server (probes, timers) may fall into one of them.
TURNS = 5

Function = tuple[str, str]


class Recorder:
    """The Python functions that the thread of the event loop calls while the recorder runs."""

    def __init__(self) -> None:
        self._codes: dict[CodeType, str] = {}

    def start(self) -> None:
        self._codes.clear()
        sys.setprofile(self._record)

    def stop(self) -> None:
        sys.setprofile(None)

    def functions(self) -> list[Function]:
        """Module and qualified name of each function, in the order of the first calls, without this module."""
        called = [(module, code.co_qualname) for code, module in self._codes.items()]
        return [(module, name) for module, name in called if module not in (__name__, "threading")]

    def _record(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            self._codes.setdefault(frame.f_code, frame.f_globals.get("__name__", ""))


def measure_hops() -> list[Row]:
    """Functions and modules of a memory hit, and of a miss with disk and Redis configured."""
    with tempfile.TemporaryDirectory() as folder, redis_server() as redis:
        hit = functions_of("hit", {"DISK_LIMIT_BYTES": "0"})
        miss = functions_of("miss", {"DISK_PATH": folder, "REDIS_URL": redis.url})
    return [
        _row("functions of a memory hit", hit, HIT_FUNCTIONS),
        _row("functions of a miss with disk and Redis", miss, MISS_FUNCTIONS),
    ]


def functions_of(kind: str, settings: Mapping[str, str]) -> list[Function]:
    """Runs a server in a process of its own and records one request there; `kind` is "hit" or "miss"."""
    given = {"SOURCE_ROOT": str(SAMPLES), "SERVER_PORT": str(free_port()), **settings}
    environment = {**os.environ, **{f"IMGSERVER_{name}": value for name, value in given.items()}}
    command = [sys.executable, "-m", "benchmarks.hops", kind]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout
    return [(module, name) for module, name in json.loads(output)]


def _row(what: str, functions: list[Function], most: int) -> Row:
    own = [(module, name) for module, name in functions if module.startswith("imgserver.")]
    value = f"{_counts(functions)} modules, {_counts(own)} of imgserver"
    return Row(what, value, f"<= {most} functions", len(functions) <= most, {"functions": functions})


def _counts(functions: list[Function]) -> str:
    return f"{len(functions)} in {len({module for module, _ in functions})}"


def _serve(kind: str) -> None:
    """Serves, records TURNS requests, prints the functions of the shortest record, and ends."""
    settings = load(None, os.environ, {}).settings

    def on_ready(_: str) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=_record_requests, args=(kind, settings.server.port, loop), daemon=True).start()

    serve(settings, on_ready)


def _record_requests(kind: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
    recorder = Recorder()
    records: list[list[Function]] = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for turn in range(TURNS):
            target = TARGET.format(width=400 if kind == "hit" else 401 + turn)
            if kind == "hit":
                _fetch(connection, target)
                _fetch(connection, target)
            _in_loop(loop, recorder.start)
            _fetch(connection, target)
            _in_loop(loop, recorder.stop)
            records.append(recorder.functions())
    print(json.dumps(min(records, key=len)))
    os.kill(os.getpid(), signal.SIGTERM)


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    called = threading.Event()
    loop.call_soon_threadsafe(lambda: (call(), called.set()))
    called.wait(timeout=30)


def _fetch(connection: socket.socket, target: str) -> None:
    """Returns after the last byte of the answer."""
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    with contextlib.closing(connection.makefile("rb")) as stream:
        length = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        stream.read(length)


if __name__ == "__main__":
    _serve(sys.argv[1])
