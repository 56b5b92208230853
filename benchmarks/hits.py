"""Memory hits against a bare handler; hits while misses saturate the workers; refusals under overload."""

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from benchmarks.harness import Row, Server, free_port, imgserver, median_spread, running, wrk

TURNS = 5
TURN_SECONDS = 3.0
TARGET = "/img/w_400,q_70/dogs.jpg"  # about 30 kB
HOP_FIELDS = {"date", "content-length", "connection", "server"}


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
        Row("requests per second of the two, wrk on the same cores", figures),
    ]


@contextlib.contextmanager
def bare_twin(ours: Server) -> Iterator[Server]:
    """A bare handler that answers what `ours` answers for TARGET, field by field."""
    with urllib.request.urlopen(ours.url + TARGET) as answer:
        body, fields = answer.read(), dict(answer.headers)
    fields = {name: value for name, value in fields.items() if name.lower() not in HOP_FIELDS}
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
    """Latency of hits alone, and while every worker is busy with misses. wrk asks as fast as it is answered, so that
    server, load and workers want more than the cores there are."""
    idle: list[float] = []
    busy: list[float] = []
    failures = 0
    with imgserver(queue_room=64) as server:
        urllib.request.urlopen(server.url + TARGET).read()
        for _ in range(TURNS):
            idle.append(wrk(server.url + TARGET, seconds=TURN_SECONDS, connections=4).p99 * 1000)
            with misses(server):
                load = wrk(server.url + TARGET, seconds=TURN_SECONDS, connections=4)
            busy.append(load.p99 * 1000)
            failures += load.failures
    p99, ratio = statistics.median(busy), statistics.median(busy) / statistics.median(idle)
    raw = {"idle_ms": idle, "busy_ms": busy}
    return [
        Row(
            "p99 of hits while misses saturate all workers, ms",
            median_spread(busy),
            "< 10",
            p99 < 10 and not failures,
            raw,
        ),
        Row("the same against the idle p99", f"{ratio:.1f} (idle {median_spread(idle)} ms)", "< 5", ratio < 5),
    ]


@contextlib.contextmanager
def misses(server: Server, *, clients: int = 6) -> Iterator[None]:
    """Keeps all workers busy from a thread: `clients` connections ask for pictures that nobody has asked for."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_ask(server, clients, stop)))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def _ask(server: Server, clients: int, stop: threading.Event) -> None:
    numbers = iter(range(1_000_000))

    async def client(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            number = next(numbers)
            path = f"/img/w_{600 + number % 400},q_{60 + number // 400 % 40}/mountains.jpg"
            async with session.get(server.url + path) as answer:
                await answer.read()

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
