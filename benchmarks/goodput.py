"""Goodput: what many connections and a tenfold overload leave of the throughput, and how soon waits are short again."""

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator

import aiohttp

from benchmarks.harness import Row, Server, imgserver, median_spread
from benchmarks.misses import PHOTOS, bare_seconds, jobs_of, request_all

TURNS = 5
CONNECTIONS = 48
OVERLOAD = 10
OVERLOAD_SECONDS = 15.0
PROBES = 20
PROBE_SECONDS = 0.5
NORMAL_SECONDS = 1.0

# When it was sent, in seconds since the start; its status; seconds until the answer.
Answer = tuple[float, int, float]


def measure_goodput(workers: int = 2) -> list[Row]:
    with imgserver(workers_count=workers, cache_memory_bytes=0, disk_limit_bytes=0) as server:
        asyncio.run(request_all(server, jobs_of(-1), workers + 1))
        row, rate = _many_connections(server, workers)
        return [row, *_overload_rows(asyncio.run(_overload(server, rate)), rate)]


def _many_connections(server: Server, workers: int) -> tuple[Row, float]:
    """The row, and the renditions per second."""
    ratios, rates = [], []
    for turn in range(TURNS):
        jobs = [job for part in range(4) for job in jobs_of(turn * 4 + part)]
        begun = time.perf_counter()
        asyncio.run(request_all(server, jobs, CONNECTIONS))
        seconds = time.perf_counter() - begun
        ratios.append(bare_seconds(jobs, workers) / seconds)
        rates.append(len(jobs) / seconds)
    what = f"goodput with {CONNECTIONS} connections against {workers} bare processes, none refused"
    return Row(what, median_spread(ratios), ">= 0.95", statistics.median(ratios) >= 0.95), statistics.median(rates)


async def _overload(server: Server, rate: float) -> tuple[list[Answer], list[Answer]]:
    """The answers during an open loop of OVERLOAD x `rate`, and those to single requests after it."""
    targets = _targets()
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=0)) as session:
        begun = time.perf_counter()

        async def send_at(seconds: float) -> Answer:
            await asyncio.sleep(begun + seconds - time.perf_counter())
            sent = time.perf_counter()
            target = next(targets)
            async with session.get(target) as response:
                await response.read()
                return sent - begun, response.status, time.perf_counter() - sent

        count = int(OVERLOAD * rate * OVERLOAD_SECONDS)
        flood = [asyncio.create_task(send_at(number / (OVERLOAD * rate))) for number in range(count)]
        after = [asyncio.create_task(send_at(OVERLOAD_SECONDS + PROBE_SECONDS * number)) for number in range(PROBES)]
        return await asyncio.gather(*flood), await asyncio.gather(*after)


def _targets() -> Iterator[str]:
    """Different renditions that cost about as much as those of `jobs_of`."""
    sizes = itertools.product(range(8), range(76, 96), (400, 800, 1200), PHOTOS)
    return (f"/img/w_{width + more},q_{quality}/{photo}" for more, quality, width, photo in sizes)


def _overload_rows(answers: tuple[list[Answer], list[Answer]], rate: float) -> list[Row]:
    flood, after = answers
    served = sum(status == 200 and sent + seconds <= OVERLOAD_SECONDS for sent, status, seconds in flood)
    goodput = served / (rate * OVERLOAD_SECONDS)
    refused = sorted(seconds for _, status, seconds in flood if status == 503)
    middle, slowest = statistics.median(refused), refused[int(len(refused) * 0.99)]
    failed = sum(status not in (200, 503) for _, status, _ in flood)
    late = [sent - OVERLOAD_SECONDS for sent, status, seconds in after if status != 200 or seconds > NORMAL_SECONDS]
    recovered = max(late, default=-PROBE_SECONDS) + PROBE_SECONDS
    return [
        Row(f"goodput at {OVERLOAD} x overload, of the peak", f"{goodput:.2f}", ">= 0.90", goodput >= 0.9),
        Row(
            f"{len(refused):,} refusals at {OVERLOAD} x overload",
            f"median {middle * 1000:.0f} ms, p99 {slowest * 1000:.0f} ms; {failed} other failures",
            "p99 < 50 ms",
            slowest < 0.05 and not failed,
        ),
        Row(f"answers within {NORMAL_SECONDS:.0f} s again", f"after {recovered:.1f} s", "<= 5 s", recovered <= 5.0),
    ]
