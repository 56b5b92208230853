"""What an original from elsewhere costs: once for all its sizes, and to nobody who does not need it."""

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
TURNS, BESIDE_TURNS = 5, 3
RATE, TURN_SECONDS = 300, 3
# So many ask for what never comes, of whom so many may wait, and for so long.
SLOW, WAITING, PATIENCE_SECONDS = 100, 64, 15
MISSES = 30
HIT = f"/img/w_400/{PHOTO}"


def measure_sources() -> list[Row]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.slow_origin", str(port)]
    settings = {
        "sources_far_url": f"http://127.0.0.1:{port}/",
        "sources_far_allowed_networks": "127.0.0.0/8",
        "origin_cache_max_waiting": WAITING,
        "fetch_total_timeout_seconds": PATIENCE_SECONDS,
        "queue_deadline_seconds": PATIENCE_SECONDS,
    }
    with running(command, f"http://127.0.0.1:{port}", "/count") as origin, imgserver(**settings) as server:
        _get(server, HIT)
        return [_cold(server, origin), *_beside(server)]


def _cold(server: Server, origin: Server) -> Row:
    """Interleaved with the same sizes of a local file of the same bytes; the quality keeps renders apart."""
    far, near, downloads = [], [], []
    for turn in range(TURNS):
        before = _count(origin)
        far.append(_all(server, [f"/img/w_{width},q_8{turn}/far/late/{turn}/{PHOTO}" for width in SIZES]))
        downloads.append(_count(origin) - before)
        near.append(_all(server, [f"/img/w_{width},q_8{turn}/{PHOTO}" for width in SIZES]))
    wall, local = statistics.median(far), statistics.median(near)
    most = max(downloads)
    return Row(
        f"{len(SIZES)} sizes of one cold original behind {1000 * LATE_SECONDS:.0f} ms",
        f"{most} download, {wall:.2f} s; of a local file {local:.2f} s",
        "1 download, < local + 0.5 s",
        most == 1 and wall < local + 0.5,
        {"far": far, "local": near, "downloads": downloads},
    )


def _beside(server: Server) -> list[Row]:
    """Interleaved turns, with and without."""
    turns: list[tuple[float, float, float, float]] = []
    for turn in range(BESIDE_TURNS):
        without = _hits(server), _misses(server, quality=60 + 2 * turn)
        with _slow(server, turn):
            turns.append((*without, _hits(server), _misses(server, quality=61 + 2 * turn)))
    hits, misses, hits_beside, misses_beside = (statistics.median(column) for column in zip(*turns, strict=True))
    raw = {"columns": "hits, misses, hits beside, misses beside; p99 in ms", "turns": turns}
    return [
        Row(
            f"p99 of {RATE} hits per second beside {SLOW} requests for originals of 1 byte/s",
            f"{hits_beside:.1f} ms, without {hits:.1f} ms",
            "< 10 ms or < 2 x without",
            hits_beside < 10 or hits_beside < 2 * hits,
            raw,
        ),
        Row(
            "p99 of local misses beside them",
            f"{misses_beside:.0f} ms, without {misses:.0f} ms",
            "< 2 x without",
            misses_beside < 2 * misses,
        ),
    ]


@contextlib.contextmanager
def _slow(server: Server, turn: int) -> Iterator[None]:
    """While they wait for the origin; those who are one too many have been refused by then."""
    with ThreadPoolExecutor(SLOW) as pool:
        asked = [pool.submit(_status, server, f"/img/w_9/far/slow/{turn}/{number}.png") for number in range(SLOW)]
        wait_until(lambda: sum(one.done() for one in asked) == SLOW - WAITING, what="the refusals")
        yield
        assert sum(one.done() for one in asked) == SLOW - WAITING, "the origin was not slow for long enough"
        assert {one.result() for one in asked} == {503, 504}


def _hits(server: Server) -> float:
    """p99 in ms of an open loop."""
    command = [sys.executable, "-m", "benchmarks.open_loop", server.url, HIT, str(RATE), str(TURN_SECONDS)]
    latencies = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout)
    return float(latencies[int(len(latencies) * 0.99)] * 1000)


def _misses(server: Server, *, quality: int) -> float:
    """p99 in ms, one after the other."""
    taken = sorted(_get(server, f"/img/w_{100 + number},q_{quality}/{PHOTO}") for number in range(MISSES))
    return taken[int(len(taken) * 0.99)] * 1000


def _all(server: Server, targets: list[str]) -> float:
    """Seconds until the last of those asked for at once is there."""
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
