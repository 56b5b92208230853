"""Keeps all workers busy: a few clients request pictures that are in no cache.

Run as `python -m benchmarks.saturate URL`; it stops when standard input is closed.
"""

import asyncio
import sys

import aiohttp

CLIENTS = 6


async def saturate(url: str) -> None:
    numbers = iter(range(1_000_000))

    async def client(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            path = f"/img/w_{600 + number % 400},q_{60 + number // 400 % 40}/mountains.jpg"
            async with session.get(url + path) as answer:
                await answer.read()

    async with aiohttp.ClientSession() as session:
        clients = [asyncio.create_task(client(session)) for _ in range(CLIENTS)]
        await asyncio.to_thread(sys.stdin.read)
        for task in clients:
            task.cancel()
        await asyncio.wait(clients)


if __name__ == "__main__":
    asyncio.run(saturate(sys.argv[1]))
