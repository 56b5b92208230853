"""Overload of a real server: how fast it refuses, how often it renders one cold URL; and how fast it starts."""

import asyncio
import json
import statistics
import time
import urllib.request

import aiohttp

from benchmarks.harness import MEGABYTE, Row, Server, imgserver

MAX_WAITING = 16
COLD_URLS = 400
CONCURRENT = 1000


def measure_overload() -> list[Row]:
    """An open loop: COLD_URLS different cold URLs within two seconds, many times the capacity of two workers."""
    with imgserver(queue_max_waiting=MAX_WAITING, queue_deadline_seconds=5) as server:
        responses = asyncio.run(_flood(server))
        refused = [seconds for status, seconds, _ in responses if status == 503]
        failed = [status for status, _, _ in responses if status not in (200, 503)]
        has_retry_after = all(retry and retry.isdigit() for status, _, retry in responses if status == 503)
        renders = _renders(server)
        bodies = asyncio.run(_get_concurrently(server))
        renders = _renders(server) - renders
    slowest = max(refused, default=0.0)
    middle = statistics.median(refused) if refused else 0.0
    shown = f"median {middle * 1000:.1f} ms, slowest {slowest * 1000:.0f} ms, {len(refused)} of {COLD_URLS}"
    is_one_body = len(bodies) == 1
    return [
        Row(
            "refusal under overload (503 with Retry-After)",
            shown,
            "< 50 ms",
            slowest < 0.05 and has_retry_after and not failed,
        ),
        Row(
            f"{CONCURRENT} concurrent requests for one cold URL",
            f"{renders} render(s)",
            "1",
            renders == 1 and is_one_body,
        ),
    ]


async def _flood(server: Server) -> list[tuple[int, float, str | None]]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        # Opens the connections first, so that handshakes are not measured.
        await asyncio.gather(*(_get(session, server.url + "/livez") for _ in range(COLD_URLS // 2)))
        tasks = []
        for number in range(COLD_URLS):
            target = f"/img/w_{500 + number},q_70/sunset.jpg"
            tasks.append(asyncio.create_task(_get(session, server.url + target)))
            await asyncio.sleep(2.0 / COLD_URLS)
        return await asyncio.gather(*tasks)


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, float, str | None]:
    begun = time.perf_counter()
    async with session.get(url) as response:
        await response.read()
        return response.status, time.perf_counter() - begun, response.headers.get("Retry-After")


async def _get_concurrently(server: Server) -> set[bytes]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def get() -> bytes:
            async with session.get(server.url + "/img/w_900,q_71/creek.jpg") as response:
                return await response.read()

        return set(await asyncio.gather(*(get() for _ in range(CONCURRENT))))


def _renders(server: Server) -> int:
    with urllib.request.urlopen(server.url + "/api/image/health") as response:
        return int(json.load(response)["workers"]["renders"])


def measure_start() -> list[Row]:
    """From the command to `/readyz`, the idle server's memory, and a worker's after large photographs."""
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        with imgserver() as server:
            seconds.append(time.perf_counter() - begun)
            rss = server.rss_bytes()
            for width in range(300, 330):
                urllib.request.urlopen(f"{server.url}/img/w_{width}/dandelion.jpg").read()
            worker = max(child.memory_info().rss for child in server.process.children(recursive=True))
    ready = statistics.median(seconds)
    return [
        Row("server start to ready", f"{ready:.2f} s", "< 1.5 s", ready < 1.5, {"seconds": seconds}),
        Row("server process at idle, RSS", f"{rss / MEGABYTE:.0f} MB", "< 120 MB", rss < 120 * MEGABYTE),
        Row(
            "a worker after 30 photographs of 16 MP, RSS",
            f"{worker / MEGABYTE:.0f} MB",
            "< 200 MB",
            worker < 200 * MEGABYTE,
        ),
    ]
