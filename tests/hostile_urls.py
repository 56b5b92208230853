"""Requests that make every text of a client different: paths, queries, options, signatures and header fields."""

import asyncio
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)\r\n")
_CHARACTERS = string.ascii_letters + string.digits

# The target, and further header lines.
Request = tuple[str, str]


class HostileClient:
    """Makes the requests of one kind. `number` differs in each."""

    def __init__(self, seed: int = 6) -> None:
        self._draw = random.Random(seed)
        self.kinds: Final[dict[str, Callable[[int], Request]]] = {
            "absent, long path": lambda _: (f"/img/w_40/{'/'.join(self._text(200) for _ in range(20))}.jpg", ""),
            "absent, short path": lambda _: (f"/img/w_40/{self._text(60)}.jpg", ""),
            "query": lambda _: (f"/img/w_40/cat.png?{self._text(400)}", ""),
            "long query": lambda _: (f"/img/w_40/cat.png?{self._text(7000)}", ""),
            "version": lambda _: (f"/img/w_40/cat.png?v={self._text(16)}", ""),
            "accept": lambda number: (
                "/img/w_40,f_auto/cat.png",
                f"Accept: image/{self._text(3000)},image/webp;q=0.{number}\r\nUser-Agent: {self._text(1000)}\r\n",
            ),
            "client hints": lambda number: (
                "/img/w_auto/cat.png",
                f"Sec-CH-Width: {number}\r\nSec-CH-DPR: {number % 97 / 10}\r\n{self._text(20)}: {self._text(500)}\r\n",
            ),
            "conditions": lambda _: (
                "/img/w_40/cat.png",
                f'If-None-Match: "{self._text(4000)}"\r\nX-Request-Id: {self._text(64)}\r\n',
            ),
            "bad option": lambda _: (f"/img/w_{self._text(30)},h_{self._text(3000)}/cat.png", ""),
            "bad plan": lambda number: (f"/img/c_fill,w_{number + 1},ar_16:9,h_3,g_{self._text(9)}/cat.png", ""),
            "bad signature": lambda _: (f"/img/s--{self._text(22)}--/w_40/{self._text(3000)}.png", ""),
            "other host": lambda _: (f"/img/w_40/https://{self._text(20)}.example/{self._text(1000)}", ""),
            "base64": lambda _: (f"/img/w_40/b64/{self._text(2000)}", ""),
            "other route": lambda _: (f"/{self._text(3000)}", ""),
            "credentials": lambda number: (
                "/api/image/health",
                f"Authorization: Bearer {self._text(10)}.{self._text(43)}\r\nX-Forwarded-For: 10.0.{number % 99}.1\r\n",
            ),
        }

    def requests(self, count: int) -> Iterable[Request]:
        """So many of each kind, mixed."""
        for number in range(count):
            for make in self.kinds.values():
                yield make(number)

    def _text(self, length: int) -> str:
        return "".join(self._draw.choices(_CHARACTERS, k=length))


async def send_all(port: int, requests: Iterable[Request], *, connections: int = 8) -> Counter[int]:
    """Sends the requests on a few connections. Returns how many responses had each status."""
    remaining, seen = iter(requests), Counter[int]()

    async def send() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for target, lines in remaining:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            status = int(head[9:12])
            if length is not None and status != 304:
                await reader.readexactly(int(length[1]))
            seen[status] += 1
            if b"\r\nconnection: close\r\n" in head.lower():
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    async with asyncio.timeout(300):
        await asyncio.gather(*(send() for _ in range(connections)))
    return seen
