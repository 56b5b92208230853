"""Memory hits against a bare handler, and hits while misses saturate the workers."""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import ROOT, Row, Server, free_port, imgserver, median_spread, running, wait_until, wrk

TURNS = 5
TURN_SECONDS = 3.0
RATE = 300
TARGET = "/img/w_400,q_70/dogs.jpg"  # about 30 kB
HOP_BY_HOP_HEADERS = {"date", "content-length", "connection", "server"}


def measure_hits() -> list[Row]:
    """Requests per second of memory hits over those of a bare handler with the same body and headers."""
    with imgserver() as ours, bare_twin(ours) as bare:
        rates: list[tuple[float, float]] = []
        for _ in range(TURNS):
            rates.append(
                (wrk(ours.url + TARGET, seconds=TURN_SECONDS).rate, wrk(bare.url + TARGET, seconds=TURN_SECONDS).rate)
            )
        rss = ours.rss_bytes()
    ratios = [ours_rate / bare_rate for ours_rate, bare_rate in rates]
    ratio = statistics.median(ratios)
    raw = {"turns": rates, "rss_bytes": rss}
    figures = " / ".join(f"{statistics.median(column):,.0f}" for column in zip(*rates, strict=True))
    return [
        Row("memory hit against a bare aiohttp + uvloop handler", median_spread(ratios), ">= 0.80", ratio >= 0.80, raw),
        Row("requests per second of both, with wrk on the same cores", figures),
    ]


@contextlib.contextmanager
def bare_twin(ours: Server, target: str = TARGET) -> Iterator[Server]:
    """A bare handler that answers `target` with the body and the headers of `ours`."""
    with urllib.request.urlopen(ours.url + target) as answer:
        body, fields = answer.read(), dict(answer.headers)
    fields = {name: value for name, value in fields.items() if name.lower() not in HOP_BY_HOP_HEADERS}
    fields["Server"] = "bare"
    port = free_port()
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        script = Path(__file__).with_name("bare_handler.py")
        command = [sys.executable, str(script), str(port), file.name, json.dumps(fields)]
        with running(command, f"http://127.0.0.1:{port}", TARGET) as bare:
            yield bare


def measure_contention() -> list[Row]:
    """Latency of hits, alone and while every worker is busy with misses: at a steady rate, and at the full speed of wrk
    (server, load and workers then need more cores than there are)."""
    rows: list[tuple[float, float, float, float]] = []
    with imgserver(queue_max_waiting=64) as server:
        urllib.request.urlopen(server.url + TARGET).read()
        for _ in range(TURNS):
            steady_idle, full_idle = _steady(server), _full_speed(server)
            with misses(server):
                rows.append((steady_idle, _steady(server), full_idle, _full_speed(server)))
    steady_idle, steady, full_idle, full = (statistics.median(column) for column in zip(*rows, strict=True))
    raw = {"columns": "steady idle, steady, full speed idle, full speed; p99 in ms", "turns": rows}
    return [
        Row(
            f"p99 of {RATE} hits per second while misses saturate all workers",
            f"{steady:.1f} ms, idle {steady_idle:.1f} ms",
            "< 10 ms and < 5 x idle",
            steady < 10 and steady < 5 * steady_idle,
            raw,
        ),
        Row(
            "the same with wrk at full speed",
            f"{full:.1f} ms, idle {full_idle:.1f} ms",
            "< 10 ms and < 5 x idle",
            full < 10 and full < 5 * full_idle,
        ),
    ]


def _steady(server: Server) -> float:
    """p99 in ms of an open loop: requests are sent at a fixed rate."""
    command = [sys.executable, "-m", "benchmarks.open_loop", server.url, TARGET, str(RATE), str(TURN_SECONDS)]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout
    latencies = json.loads(output)
    return float(latencies[int(len(latencies) * 0.99)] * 1000)


def _full_speed(server: Server) -> float:
    """p99 in ms of a closed loop: four connections of wrk."""
    return wrk(server.url + TARGET, seconds=TURN_SECONDS, connections=4).p99 * 1000


@contextlib.contextmanager
def misses(server: Server) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.saturate", server.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as process:
        try:
            wait_until(lambda: _busy(server) > 0, what="a busy worker")
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _busy(server: Server) -> int:
    with urllib.request.urlopen(server.url + "/api/image/health") as answer:
        return int(json.load(answer)["workers"]["busy"])
