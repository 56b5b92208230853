"""The cost of remote originals: one download for all sizes, and no delay of requests for other originals."""

import contextlib
import json
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.harness import ROOT, Row, Server, free_port, imgserver, running, wait_until
from benchmarks.slow_origin import LATE_SECONDS, PHOTO

SIZES = range(101, 113)
TURNS, SLOW_TURNS = 5, 3
RATE, TURN_SECONDS = 300, 3
# Requests for originals that never arrive, how many of them may wait, and for how long.
SLOW, WAITING, TIMEOUT_SECONDS = 100, 64, 15
MISSES = 30
HIT = f"/img/w_400/{PHOTO}"


def measure_sources() -> list[Row]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.slow_origin", str(port)]
    settings = {
        "sources_remote_url": f"http://127.0.0.1:{port}/",
        "sources_remote_allowed_networks": "127.0.0.0/8",
        "origin_cache_max_waiting": WAITING,
        "fetch_total_timeout_seconds": TIMEOUT_SECONDS,
        "queue_deadline_seconds": TIMEOUT_SECONDS,
    }
    with running(command, f"http://127.0.0.1:{port}", "/count") as origin, imgserver(**settings) as server:
        _get(server, HIT)
        return [_cold(server, origin), *_during_slow_requests(server)]


def _cold(server: Server, origin: Server) -> Row:
    """Interleaved with the same sizes of a local file with the same bytes; each turn has its own quality, so none is a
    hit."""
    remote, local, downloads = [], [], []
    for turn in range(TURNS):
        before = _count(origin)
        remote.append(_all(server, [f"/img/w_{width},q_8{turn}/remote/late/{turn}/{PHOTO}" for width in SIZES]))
        downloads.append(_count(origin) - before)
        local.append(_all(server, [f"/img/w_{width},q_8{turn}/{PHOTO}" for width in SIZES]))
    wall, local_wall = statistics.median(remote), statistics.median(local)
    most = max(downloads)
    return Row(
        f"{len(SIZES)} sizes of one cold original behind {1000 * LATE_SECONDS:.0f} ms",
        f"{most} download, {wall:.2f} s; of a local file {local_wall:.2f} s",
        "1 download, < local + 0.5 s",
        most == 1 and wall < local_wall + 0.5,
        {"remote": remote, "local": local, "downloads": downloads},
    )


def _during_slow_requests(server: Server) -> list[Row]:
    """Interleaved turns, with and without slow requests."""
    turns: list[tuple[float, float, float, float]] = []
    for turn in range(SLOW_TURNS):
        without = _hits(server), _misses(server, quality=60 + 2 * turn)
        with _slow(server, turn):
            turns.append((*without, _hits(server), _misses(server, quality=61 + 2 * turn)))
    hits, misses, slow_hits, slow_misses = (statistics.median(column) for column in zip(*turns, strict=True))
    raw = {"columns": "hits, misses, hits and misses during slow requests; p99 in ms", "turns": turns}
    return [
        Row(
            f"p99 of {RATE} hits per second during {SLOW} requests for originals of 1 byte/s",
            f"{slow_hits:.1f} ms, without {hits:.1f} ms",
            "< 10 ms or < 2 x without",
            slow_hits < 10 or slow_hits < 2 * hits,
            raw,
        ),
        Row(
            "p99 of local misses during these requests",
            f"{slow_misses:.0f} ms, without {misses:.0f} ms",
            "< 2 x without",
            slow_misses < 2 * misses,
        ),
    ]


@contextlib.contextmanager
def _slow(server: Server, turn: int) -> Iterator[None]:
    """Requests that wait for the origin inside the `with`; those beyond the limit have been refused."""
    with ThreadPoolExecutor(SLOW) as pool:
        requests = [pool.submit(_status, server, f"/img/w_9/remote/slow/{turn}/{number}.png") for number in range(SLOW)]
        wait_until(lambda: sum(one.done() for one in requests) == SLOW - WAITING, what="the refusals")
        yield
        assert sum(one.done() for one in requests) == SLOW - WAITING, "the origin was not slow for long enough"
        assert {one.result() for one in requests} == {503, 504}


def _hits(server: Server) -> float:
    """p99 in ms of an open loop at RATE."""
    command = [sys.executable, "-m", "benchmarks.open_loop", server.url, HIT, str(RATE), str(TURN_SECONDS)]
    latencies = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout)
    return float(latencies[int(len(latencies) * 0.99)] * 1000)


def _misses(server: Server, *, quality: int) -> float:
    """p99 in ms of misses in sequence."""
    taken = sorted(_get(server, f"/img/w_{100 + number},q_{quality}/{PHOTO}") for number in range(MISSES))
    return taken[int(len(taken) * 0.99)] * 1000


def _all(server: Server, targets: list[str]) -> float:
    """Seconds until the last of these concurrent requests is answered."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(len(targets)) as pool:
        list(pool.map(lambda target: _get(server, target), targets))
    return time.perf_counter() - begun


def _get(server: Server, target: str) -> float:
    begun = time.perf_counter()
    with urllib.request.urlopen(server.url + target, timeout=60) as answer:
        assert answer.read()
    return time.perf_counter() - begun


def _status(server: Server, target: str) -> int:
    try:
        with urllib.request.urlopen(server.url + target, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _count(origin: Server) -> int:
    with urllib.request.urlopen(origin.url + "/count") as answer:
        return int(answer.read())
