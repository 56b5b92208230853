"""Misses against bare libvips: CPU per rendition, and renditions per second with N workers against N processes."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import aiohttp

from benchmarks.harness import SAMPLES, Row, Server, imgserver, median_spread

TURNS = 5
PHOTOS = ("autumn.jpg", "creek.jpg", "dandelion.jpg", "dogs.jpg", "mountains.jpg", "sunset.jpg")
WIDTHS = (400, 800, 1200)

Job = tuple[str, int, int]


def jobs_of(turn: int) -> list[Job]:
    """The same work in each turn; the quality differs by one, so that no cache key repeats."""
    return [(photo, width, 76 + turn) for width in WIDTHS for photo in PHOTOS]


def measure_misses(workers: int = 2) -> list[Row]:
    """Interleaved turns. The cache is off."""
    ours: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    with imgserver(workers_count=workers, cache_memory_bytes=0) as server:
        asyncio.run(request_all(server, jobs_of(-1), workers + 1))
        for turn in range(TURNS):
            ours.append(_ours(server, jobs_of(turn), workers))
            bare.append(_bare(jobs_of(turn), workers))
    cpu = [mine[1] / limit[1] for mine, limit in zip(ours, bare, strict=True)]
    rate = [limit[0] / mine[0] for mine, limit in zip(ours, bare, strict=True)]
    count = len(jobs_of(0))
    per_picture = f"{_median(ours, 1) / count * 1000:.1f} / {_median(bare, 1) / count * 1000:.1f} ms"
    raw = {"ours": ours, "bare": bare, "jobs": count}
    return [
        Row(
            "a miss: CPU of the process tree against bare libvips",
            median_spread(cpu),
            "<= 1.05",
            statistics.median(cpu) <= 1.05,
            raw,
        ),
        Row("CPU per rendition of the two", per_picture),
        Row(
            f"misses per second, {workers} workers against {workers} bare processes",
            median_spread(rate),
            ">= 0.97",
            statistics.median(rate) >= 0.97,
        ),
    ]


def _median(turns: list[tuple[float, float]], column: int) -> float:
    return statistics.median(turn[column] for turn in turns)


def _ours(server: Server, jobs: list[Job], workers: int) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of the process tree of the server, for all jobs."""
    wall, cpu = time.perf_counter(), server.cpu_seconds()
    asyncio.run(request_all(server, jobs, workers + 1))
    return time.perf_counter() - wall, server.cpu_seconds() - cpu


async def request_all(server: Server, jobs: list[Job], connections: int) -> None:
    """Requests all jobs, with as many requests in flight as there are connections."""
    remaining = iter(jobs)

    async def client(session: aiohttp.ClientSession) -> None:
        for photo, width, quality in remaining:
            async with session.get(f"{server.url}/img/w_{width},q_{quality}/{photo}") as answer:
                await answer.read()
                assert answer.status == 200, await answer.text()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session) for _ in range(connections)))


def bare_seconds(jobs: list[Job], processes: int) -> float:
    """Wall seconds in which so many processes of bare libvips render all jobs."""
    return _bare(jobs, processes)[0]


def _bare(jobs: list[Job], workers: int) -> tuple[float, float]:
    """Wall seconds at the combined rate of all processes, and CPU seconds of all."""
    script = Path(__file__).with_name("bare_libvips.py")
    shares = [
        [(str(SAMPLES / photo), width, quality) for photo, width, quality in jobs[n::workers]] for n in range(workers)
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), json.dumps(share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for share in shares
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    figures = [json.loads(process.communicate()[0]) for process in processes]
    # Rates are added: an uneven split of the jobs must not slow down the bare side.
    rate = sum(len(share) / figure["wall"] for share, figure in zip(shares, figures, strict=True))
    return len(jobs) / rate, sum(figure["cpu"] for figure in figures)
