"""An open loop: requests at fixed times, whether or not the last was answered; latency counts from when each was due.

Run as `python -m benchmarks.paced URL TARGET RATE SECONDS`, in a process of its own so that nothing else delays it;
prints the latencies in seconds, sorted, as JSON.
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


async def paced(url: str, target: str, rate: float, seconds: float) -> list[float]:
    address = urlsplit(url)
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection(address.hostname, address.port))
    request = f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()

    async def ask(due: float) -> float:
        reader, writer = await free.get()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = _LENGTH.search(head)
        assert length is not None, head
        await reader.readexactly(int(length[1]))
        free.put_nowait((reader, writer))
        return time.perf_counter() - due

    begun, asked = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(ask(due)))
    return sorted(await asyncio.gather(*asked))


if __name__ == "__main__":
    print(json.dumps(uvloop.run(paced(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))))
