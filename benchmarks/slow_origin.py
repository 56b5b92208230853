"""A slow web server of originals, as a separate process: `python -m benchmarks.slow_origin PORT`.

`/late/...` responds after 300 ms, `/slow/...` sends one byte per second, `/count` returns the number of downloads.
"""

import asyncio
import sys
from contextlib import suppress

from benchmarks.harness import SAMPLES

PHOTO = "cat.png"
LATE_SECONDS = 0.3
HEAD = "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nCache-Control: max-age=3600\r\n\r\n"


class SlowOrigin:
    def __init__(self) -> None:
        self._photo = (SAMPLES / PHOTO).read_bytes()
        self._downloads = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head.split(b" ")[1].decode(), writer)
                await writer.drain()
        writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        if target == "/count":
            text = str(self._downloads).encode()
            writer.write(HEAD.format(length=len(text)).encode() + text)
            return
        self._downloads += 1
        head = HEAD.format(length=len(self._photo)).encode()
        if target.startswith("/late/"):
            await asyncio.sleep(LATE_SECONDS)
            writer.write(head + self._photo)
            return
        writer.write(head)
        for at in range(len(self._photo)):
            writer.write(self._photo[at : at + 1])
            await writer.drain()
            await asyncio.sleep(1)


async def main(port: int) -> None:
    async with await asyncio.start_server(SlowOrigin().serve, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
