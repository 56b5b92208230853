"""Overload from outside: how fast refusals are, that a cold URL is rendered once, and how soon a server is ready."""

import asyncio
import json
import statistics
import time
import urllib.request

import aiohttp

from benchmarks.harness import MEGABYTE, Row, Server, imgserver

ROOM = 16
NEWCOMERS = 400
JOINERS = 1000


def measure_overload() -> list[Row]:
    """An open loop: NEWCOMERS different cold URLs within two seconds, many times what two workers do."""
    with imgserver(queue_max_waiting=ROOM, queue_deadline_seconds=5) as server:
        answers = asyncio.run(_flood(server))
        refused = [seconds for status, seconds, _ in answers if status == 503]
        bad = [status for status, _, _ in answers if status not in (200, 503)]
        told = all(retry and retry.isdigit() for status, _, retry in answers if status == 503)
        renders = _renders(server)
        joined = asyncio.run(_join(server))
        renders = _renders(server) - renders
    slowest = max(refused, default=0.0)
    middle = statistics.median(refused) if refused else 0.0
    shown = f"median {middle * 1000:.1f} ms, slowest {slowest * 1000:.0f} ms, {len(refused)} of {NEWCOMERS}"
    whole = len(joined) == 1
    return [
        Row("refusal under overload (503 with Retry-After)", shown, "< 50 ms", slowest < 0.05 and told and not bad),
        Row(f"{JOINERS} concurrent requests for one cold URL", f"{renders} render(s)", "1", renders == 1 and whole),
    ]


async def _flood(server: Server) -> list[tuple[int, float, str | None]]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        # Connections first: the figure is the server's, not the handshake's.
        await asyncio.gather(*(_ask(session, server.url + "/livez") for _ in range(NEWCOMERS // 2)))
        tasks = []
        for number in range(NEWCOMERS):
            target = f"/img/w_{500 + number},q_70/sunset.jpg"
            tasks.append(asyncio.create_task(_ask(session, server.url + target)))
            await asyncio.sleep(2.0 / NEWCOMERS)
        return await asyncio.gather(*tasks)


async def _ask(session: aiohttp.ClientSession, url: str) -> tuple[int, float, str | None]:
    begun = time.perf_counter()
    async with session.get(url) as answer:
        await answer.read()
        return answer.status, time.perf_counter() - begun, answer.headers.get("Retry-After")


async def _join(server: Server) -> set[bytes]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one() -> bytes:
            async with session.get(server.url + "/img/w_900,q_71/creek.jpg") as answer:
                return await answer.read()

        return set(await asyncio.gather(*(one() for _ in range(JOINERS))))


def _renders(server: Server) -> int:
    with urllib.request.urlopen(server.url + "/api/image/health") as answer:
        return int(json.load(answer)["workers"]["renders"])


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
