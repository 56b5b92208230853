"""An open loop: requests at fixed times, whether or not the previous one was answered. Latency starts at the due time.

Run as `python -m benchmarks.open_loop URL TARGET RATE SECONDS`: a separate process, so that nothing else delays it.
Prints the sorted latencies in seconds as JSON.
"""

import asyncio
import json
import re
import sys
import time
from urllib.parse import urlsplit

import uvloop

CONNECTIONS = 32
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)\r\n")


async def measure(url: str, target: str, rate: float, seconds: float) -> list[float]:
    address = urlsplit(url)
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection(address.hostname, address.port))
    data = f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()

    async def request(due: float) -> float:
        reader, writer = await free.get()
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = _LENGTH.search(head)
        assert length is not None, head
        await reader.readexactly(int(length[1]))
        free.put_nowait((reader, writer))
        return time.perf_counter() - due

    begun, requests = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        requests.append(asyncio.create_task(request(due)))
    return sorted(await asyncio.gather(*requests))


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))))
