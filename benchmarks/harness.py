"""Shared by the benchmarks: servers as child processes, CPU seconds of process trees, load by wrk.

Method: A and B take short turns, so that other load on the machine disturbs both. Figures are medians over the turns
with their range. CPU seconds of the process tree are given beside wall time, which depends on the load of the machine.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
RESULTS = Path(__file__).parent / "results"
START_SECONDS = 30
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test: its URL and its process; the children of the process belong to it."""

    url: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        return tree_cpu_seconds(self.process)

    def rss_bytes(self) -> int:
        return self.process.memory_info().rss


@dataclass(frozen=True, slots=True)
class Load:
    """The report of wrk: requests per second, latencies in seconds, responses other than 2xx and 3xx."""

    rate: float
    p50: float
    p99: float
    failures: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `kept`: whether the budget holds; None if there is no budget."""

    what: str
    value: str
    budget: str = ""
    kept: bool | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)


def tree_cpu_seconds(process: psutil.Process) -> float:
    """User and system seconds of a process, its living descendants, and its children that have ended."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def imgserver(*, folder: Path = SAMPLES, **variables: object) -> Iterator[Server]:
    """Runs `imgserver serve` with `variables` as settings and waits until it is ready.

    The disk tier is off by default: it would serve results of the previous run.
    """
    port = free_port()
    command = [sys.executable, "-m", "imgserver", "serve", str(folder), "--port", str(port)]
    variables = {"disk_limit_bytes": 0, **variables}
    environment = {f"IMGSERVER_{name.upper()}": str(value) for name, value in variables.items()}
    with running(command, f"http://127.0.0.1:{port}", "/readyz", environment) as server:
        yield server


@contextlib.contextmanager
def running(
    command: Sequence[str], url: str, probe: str, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Starts `command`, waits until `url + probe` answers 200, ends the process group's leader with SIGTERM."""
    process = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: status_of(url + probe) == 200, what=f"{command[0]} at {url}")
        yield Server(url, psutil.Process(process.pid))
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Not every server ends its child processes.
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def status_of(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def wait_until(reached: Callable[[], bool], *, what: str) -> None:
    limit = time.monotonic() + START_SECONDS
    while not reached():
        if time.monotonic() > limit:
            raise TimeoutError(f"{what} did not come up in {START_SECONDS} s")
        time.sleep(0.05)


def wrk(
    url: str,
    *,
    seconds: float,
    connections: int = 16,
    script: Path | None = None,
    headers: Mapping[str, str] | None = None,
) -> Load:
    """Closed-loop load from one thread of wrk. Raises FileNotFoundError where wrk is not installed."""
    program = shutil.which("wrk")
    if program is None:
        raise FileNotFoundError("wrk is not installed (Debian package wrk)")
    command = [
        program,
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--latency",
        *(["-s", str(script)] if script else []),
        *(part for name, value in (headers or {}).items() for part in ("-H", f"{name}: {value}")),
    ]
    output = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    return Load(
        rate=float(_found(r"Requests/sec:\s+([\d.]+)", output)),
        p50=_seconds(_found(r"\n\s+50%\s+(\S+)", output)),
        p99=_seconds(_found(r"\n\s+99%\s+(\S+)", output)),
        failures=int(_found(r"Non-2xx or 3xx responses: (\d+)", output, default="0")),
    )


def _found(pattern: str, text: str, default: str | None = None) -> str:
    match = re.search(pattern, text)
    if match is None and default is None:
        raise ValueError(f"wrk printed no {pattern}: {text}")
    return match[1] if match else str(default)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if match is None:
        raise ValueError(f"wrk printed no time but {text!r}: was there no response?")
    return float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[match[2]]


def median_spread(values: Sequence[float]) -> str:
    """`0.93 (0.90-0.97)`: the median and the whole range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def machine() -> dict[str, Any]:
    """The facts about the machine that figures depend on."""
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def store(name: str, rows: Sequence[Row]) -> None:
    """Writes the raw results as JSON into `results/`."""
    RESULTS.mkdir(exist_ok=True)
    facts = [{"what": row.what, "value": row.value, "budget": row.budget, "kept": row.kept, **row.raw} for row in rows]
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), "rows": facts}, indent=1) + "\n")
