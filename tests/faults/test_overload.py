"""Far more requests than workers can serve, from outside the server."""

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
VISITORS = 1000


async def test_a_thousand_visitors_of_one_cold_picture_in_an_overload_cost_one_render():
    """The first of them has a place when the overload begins; the others join it, and need none."""
    with serving(workers_count=1, queue_max_waiting=3, queue_deadline_seconds=30, disk_limit_bytes=0) as server:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", connector=connector) as session:
            busy = asyncio.create_task(ask(session, slow(1)))
            await eventually(lambda: waits(server, busy=1))
            visitors = [asyncio.create_task(ask(session, COLD))]
            await eventually(lambda: waits(server, waiting=1))
            flood = [asyncio.create_task(ask(session, slow(10 + number))) for number in range(60)]
            visitors += [asyncio.create_task(ask(session, COLD)) for _ in range(VISITORS - 1)]
            answers = await asyncio.gather(*visitors)
            others = [await busy, *await asyncio.gather(*flood)]
        renders = server.image_health()["workers"]["renders"]

    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, _, body in answers}) == 1
    assert Counter(state for _, state, _ in answers) == {
        "imgserver; fwd=uri-miss; stored": 1,
        "imgserver; fwd=uri-miss; collapsed": VISITORS - 1,
    }
    statuses = Counter(status for status, _, _ in others)
    assert statuses.keys() == {200, 503}
    assert statuses[503] >= 50
    assert renders == 1 + statuses[200]


@dataclass(frozen=True)
class Seen:
    status: int
    seconds: float
    retry_after: str | None


async def test_ten_times_what_a_worker_can_do_keeps_it_busy_with_what_is_answered():
    """An open loop: requests come when they are due, answered or not. What the admission does in a minute of it, with a
    clock of its own: tests/test_admission_overload.py."""
    settings = {"workers_count": 1, "queue_deadline_seconds": DEADLINE_SECONDS, "disk_limit_bytes": 0}
    with serving(**settings) as server:
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{server.port}", connector=aiohttp.TCPConnector(limit=0)
        ) as session:
            begun = time.monotonic()
            for number in range(8):
                await look(session, photo(number))
            pace = 10 * 8 / (time.monotonic() - begun)
            busy_before = await asyncio.to_thread(server.metric, "imgserver_worker_busy_seconds_total")
            begun = time.monotonic()
            due = [
                asyncio.create_task(later(session, begun + number / pace, photo(100 + number)))
                for number in range(int(pace * OVERLOAD_SECONDS))
            ]
            await asyncio.sleep(begun + OVERLOAD_SECONDS - time.monotonic())
            busy = await asyncio.to_thread(server.metric, "imgserver_worker_busy_seconds_total") - busy_before
            lasted = time.monotonic() - begun
            seen = await asyncio.gather(*due)
            after = [await look(session, photo(5000 + number)) for number in range(5)]

    served = [one.seconds for one in seen if one.status == 200]
    refused = [one for one in seen if one.status == 503]
    killed = len(seen) - len(served) - len(refused)
    assert {one.status for one in seen} <= {200, 503, 504}
    # All but a few of those that were let in are answered, and the worker has hardly rested: that is the goodput.
    assert killed <= len(served) / 10
    assert busy >= 0.8 * lasted
    assert max(served) <= DEADLINE_SECONDS + 0.3
    assert len(refused) >= len(seen) / 2
    assert median(one.seconds for one in refused) < 0.05
    assert all(int(one.retry_after or 0) >= 1 for one in refused)
    assert {one.status for one in after} == {200}


def photo(number: int) -> str:
    """Of about the same cost each."""
    return f"/img/w_{600 + number % 100},q_{40 + number // 100},f_webp/creek.jpg"


async def later(session: aiohttp.ClientSession, due: float, target: str) -> Seen:
    await asyncio.sleep(max(0.0, due - time.monotonic()))
    return await look(session, target)


async def look(session: aiohttp.ClientSession, target: str) -> Seen:
    begun = time.monotonic()
    async with session.get(target) as answer:
        await answer.read()
        return Seen(answer.status, time.monotonic() - begun, answer.headers.get("Retry-After"))


async def ask(session: aiohttp.ClientSession, target: str) -> tuple[int, str | None, bytes]:
    async with session.get(target) as answer:
        return answer.status, answer.headers.get("Cache-Status"), await answer.read()


async def waits(server: ServerProcess, **wanted: int) -> bool:
    health = await asyncio.to_thread(server.image_health)
    facts = {"busy": health["workers"]["busy"], "waiting": health["queue"]["waiting"]}
    return all(facts[name] == count for name, count in wanted.items())
