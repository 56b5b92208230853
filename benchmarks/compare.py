"""Two checkouts of imgserver against each other, in interleaved turns: memory hits, 304, Redis hits and misses.

    python -m benchmarks.compare OTHER [--rounds 7]

OTHER is a checkout with its own `.venv` (`make install` there). Each figure is this checkout divided by the other one:
requests per second (above 1.00 is faster) and CPU of the process tree per request (below 1.00 is cheaper).
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.harness import ROOT, SAMPLES, Server, free_port, median_spread, running, wrk
from benchmarks.misses import jobs_of, request_all
from tests.redis_server import RedisServer

HIT = "/img/w_640,q_72/dogs.jpg"
TURN_SECONDS = 2.0
WORKERS = 2

# Requests done, and the wall and CPU seconds that they took.
Turn = tuple[float, float, float]


def hits(server: Server, headers: dict[str, str]) -> Turn:
    cpu = server.cpu_seconds()
    load = wrk(server.url + HIT, seconds=TURN_SECONDS, headers=headers)
    assert load.failures == 0, load
    return load.rate * TURN_SECONDS, TURN_SECONDS, server.cpu_seconds() - cpu


def misses(server: Server, turn: int) -> Turn:
    jobs = jobs_of(turn)
    wall, cpu = time.perf_counter(), server.cpu_seconds()
    asyncio.run(request_all(server, jobs, WORKERS + 1))
    return len(jobs), time.perf_counter() - wall, server.cpu_seconds() - cpu


@contextlib.contextmanager
def serving(checkout: Path, **settings: object) -> Iterator[Server]:
    port = free_port()
    command = [str(checkout / ".venv/bin/python"), "-m", "imgserver", "serve", str(SAMPLES), "--port", str(port)]
    settings = {"disk_limit_bytes": 0, "workers_count": WORKERS, **settings}
    variables = {f"IMGSERVER_{name.upper()}": str(value) for name, value in settings.items()}
    with running(command, f"http://127.0.0.1:{port}", "/readyz", {**variables, "PYTHONPATH": str(checkout)}) as server:
        yield server


@contextlib.contextmanager
def both(other: Path, **settings: object) -> Iterator[tuple[Server, Server]]:
    with serving(ROOT, **settings) as mine, serving(other, **settings) as theirs:
        for server in (mine, theirs):
            with urllib.request.urlopen(server.url + HIT, timeout=30) as response:
                response.read()
        yield mine, theirs


def etag_of(server: Server) -> str:
    with urllib.request.urlopen(server.url + HIT, timeout=30) as response:
        return str(response.headers["ETag"])


def rows(other: Path, rounds: int) -> Iterator[tuple[str, list[Turn], list[Turn]]]:
    def interleaved(what: str, pair: tuple[Server, Server], turn: Callable[[Server, int], Turn]):
        turns: tuple[list[Turn], list[Turn]] = ([], [])
        for number in track(range(rounds), description=what, transient=True):
            for server, taken in zip(pair, turns, strict=True):
                taken.append(turn(server, number))
        return what, *turns

    with both(other) as pair:
        yield interleaved("memory hit of 60 kB", pair, lambda server, _: hits(server, {}))
        yield interleaved("304", pair, lambda server, _: hits(server, {"If-None-Match": etag_of(server)}))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        urls = []
        for name in ("mine", "theirs"):  # records of one version may be misses for the other one
            path = Path(folder) / name
            path.mkdir()
            redis = RedisServer(path)
            redis.start()
            stack.callback(redis.kill)
            urls.append(redis.url)
        mine = stack.enter_context(serving(ROOT, cache_memory_bytes=0, redis_url=urls[0]))
        theirs = stack.enter_context(serving(other, cache_memory_bytes=0, redis_url=urls[1]))
        yield interleaved("Redis hit of 60 kB", (mine, theirs), lambda server, _: hits(server, {}))
    with both(other, cache_memory_bytes=0) as pair:
        yield interleaved("miss", pair, misses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    table = Table("what", "per second", "ratio", "CPU ms", "ratio")
    for what, mine, theirs in rows(arguments.other.resolve(), arguments.rounds):
        rates = [[count / wall for count, wall, _ in turns] for turns in (mine, theirs)]
        cpus = [[1000 * cpu / count for count, _, cpu in turns] for turns in (mine, theirs)]
        table.add_row(what, *_columns(rates, "{:,.0f}"), *_columns(cpus, "{:.3f}"))
    Console().print(table)


def _columns(sides: list[list[float]], form: str) -> tuple[str, str]:
    """The medians of both sides, and the median and range of their ratio by turn."""
    medians = " / ".join(form.format(statistics.median(side)) for side in sides)
    return medians, median_spread([mine / theirs for mine, theirs in zip(*sides, strict=True)])


if __name__ == "__main__":
    main()
