"""Overload: far more requests than the workers can serve, sent to a real server."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from statistics import median

import aiohttp
import pytest

from tests.faults.test_server import slow
from tests.polling import eventually
from tests.running_server import ServerProcess, serving

pytestmark = pytest.mark.alone

OVERLOAD_SECONDS = 4.0
DEADLINE_SECONDS = 3
COLD = "/img/w_700,f_webp/creek.jpg"
CONCURRENT = 1000


async def test_a_thousand_concurrent_misses_of_one_url_cost_one_render_during_an_overload():
    """The first request has a place when the overload begins. The others join its flight and need no place."""
    with serving(workers_count=1, queue_max_waiting=3, queue_deadline_seconds=30, disk_limit_bytes=0) as server:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", connector=connector) as session:
            busy = asyncio.create_task(get(session, slow(1)))
            await eventually(lambda: has_counts(server, busy=1))
            requests = [asyncio.create_task(get(session, COLD))]
            await eventually(lambda: has_counts(server, waiting=1))
            flood = [asyncio.create_task(get(session, slow(10 + number))) for number in range(60)]
            requests += [asyncio.create_task(get(session, COLD)) for _ in range(CONCURRENT - 1)]
            responses = await asyncio.gather(*requests)
            others = [await busy, *await asyncio.gather(*flood)]
        renders = server.image_health()["workers"]["renders"]

    assert {status for status, _, _ in responses} == {200}
    assert len({body for _, _, body in responses}) == 1
    assert Counter(state for _, state, _ in responses) == {
        "imgserver; fwd=uri-miss; stored": 1,
        "imgserver; fwd=uri-miss; collapsed": CONCURRENT - 1,
    }
    statuses = Counter(status for status, _, _ in others)
    assert statuses.keys() == {200, 503}
    assert statuses[503] >= 50
    assert renders == 1 + statuses[200]


@dataclass(frozen=True)
class TimedResponse:
    status: int
    seconds: float
    retry_after: str | None


async def test_ten_times_overload_keeps_the_worker_busy_and_ends_within_five_seconds():
    """An open loop: each request is sent at its time, whether others are answered or not. A minute of such an overload
    in virtual time is in tests/rendering/test_admission_overload.py."""
    settings = {"workers_count": 1, "queue_deadline_seconds": DEADLINE_SECONDS, "disk_limit_bytes": 0}
    with serving(**settings) as server:
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{server.port}", connector=aiohttp.TCPConnector(limit=0)
        ) as session:
            begun = time.monotonic()
            for number in range(8):
                await timed_get(session, target_of(number))
            pace = 10 * 8 / (time.monotonic() - begun)
            busy_before = await asyncio.to_thread(server.metric, "imgserver_worker_busy_seconds_total")
            begun = time.monotonic()
            tasks = [
                asyncio.create_task(timed_get_at(session, begun + number / pace, target_of(100 + number)))
                for number in range(int(pace * OVERLOAD_SECONDS))
            ]
            await asyncio.sleep(begun + OVERLOAD_SECONDS - time.monotonic())
            busy = await asyncio.to_thread(server.metric, "imgserver_worker_busy_seconds_total") - busy_before
            lasted = time.monotonic() - begun
            probes = [
                asyncio.create_task(
                    timed_get_at(session, begun + OVERLOAD_SECONDS + 5 + number / 4, target_of(5000 + number))
                )
                for number in range(5)
            ]
            responses, after = await asyncio.gather(*tasks), await asyncio.gather(*probes)

    served = [response.seconds for response in responses if response.status == 200]
    refused = [response for response in responses if response.status == 503]
    killed = len(responses) - len(served) - len(refused)
    assert {response.status for response in responses} <= {200, 503, 504}
    # Goodput: almost all admitted requests are answered, and the worker was hardly idle.
    assert killed <= len(served) / 10
    assert busy >= 0.9 * lasted
    assert max(served) <= DEADLINE_SECONDS + 0.3
    assert len(refused) >= len(responses) / 2
    assert median(response.seconds for response in refused) < 0.05
    assert all(int(response.retry_after or 0) >= 1 for response in refused)
    # Five seconds after the overload, waits are short again.
    assert {response.status for response in after} == {200}
    assert max(response.seconds for response in after) < 1


def target_of(number: int) -> str:
    """A URL whose render costs about as much as that of any other number."""
    return f"/img/w_{600 + number % 100},q_{40 + number // 100},f_webp/creek.jpg"


async def timed_get_at(session: aiohttp.ClientSession, when: float, target: str) -> TimedResponse:
    await asyncio.sleep(max(0.0, when - time.monotonic()))
    return await timed_get(session, target)


async def timed_get(session: aiohttp.ClientSession, target: str) -> TimedResponse:
    begun = time.monotonic()
    async with session.get(target) as response:
        await response.read()
        return TimedResponse(response.status, time.monotonic() - begun, response.headers.get("Retry-After"))


async def get(session: aiohttp.ClientSession, target: str) -> tuple[int, str | None, bytes]:
    async with session.get(target) as response:
        return response.status, response.headers.get("Cache-Status"), await response.read()


async def has_counts(server: ServerProcess, **counts: int) -> bool:
    health = await asyncio.to_thread(server.image_health)
    actual = {"busy": health["workers"]["busy"], "waiting": health["queue"]["waiting"]}
    return all(actual[name] == count for name, count in counts.items())
