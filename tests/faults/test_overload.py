"""Far more requests than workers can serve, from outside the server."""

import asyncio
from collections import Counter

import aiohttp

from tests.faults.test_server import slow
from tests.serving import ServerProcess, serving
from tests.waiting import eventually

COLD = "/img/w_700,f_webp/creek.jpg"
VISITORS = 1000


async def test_a_thousand_visitors_of_one_cold_picture_in_an_overload_cost_one_render():
    """The first of them has a place when the overload begins; the others join it, and need none."""
    with serving(workers_count=1, queue_room=8, queue_deadline_seconds=30, disk_limit_bytes=0) as server:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", connector=connector) as session:
            busy = asyncio.create_task(ask(session, slow(1)))
            await eventually(lambda: waits(server, busy=1))
            visitors = [asyncio.create_task(ask(session, COLD))]
            await eventually(lambda: waits(server, waiting=1))
            flood = [asyncio.create_task(ask(session, slow(10 + number))) for number in range(100)]
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
    assert statuses[503] >= 90
    assert renders == 1 + statuses[200]


async def ask(session: aiohttp.ClientSession, target: str) -> tuple[int, str | None, bytes]:
    async with session.get(target) as answer:
        return answer.status, answer.headers.get("Cache-Status"), await answer.read()


async def waits(server: ServerProcess, **wanted: int) -> bool:
    health = await asyncio.to_thread(server.image_health)
    facts = {"busy": health["workers"]["busy"], "waiting": health["queue"]["waiting"]}
    return all(facts[name] == count for name, count in wanted.items())
