"""200,000 mixed requests to one server with small caches: memory and file descriptors must not grow."""

import asyncio
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil
import uvloop

from benchmarks.harness import MEGABYTE, Row, Server, imgserver

REQUESTS = 200_000
CLIENTS = 16
SAMPLES = 20
LIMIT_SECONDS = 900.0
# The first part fills the caches, the pools and the free lists of the interpreter.
WARM_FRACTION = 0.2
FD_ALLOWANCE = 8
SERVER_BYTES = 120 * MEGABYTE
WORKER_BYTES = 200 * MEGABYTE

HOT = [f"/img/w_{width},q_70/{name}" for width in range(100, 110) for name in ("cat.png", "coffee.png", "dogs.jpg")]
# More than the caches below hold, so that pictures are evicted and rendered again.
COLD = [f"/img/w_{width},f_webp/cat.png" for width in range(30, 630)]
WRONG = {"/img/w_x/cat.png": 400, "/img/w_50/none.png": 404, "/img/w_50/ATTRIBUTION.md": 415, "/nowhere": 404}
CACHES = {"cache_memory_bytes": 2 << 20, "disk_limit_bytes": 8 << 20, "tiers_write_queue_bytes": 1 << 20}

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)\r\n")


@dataclass(frozen=True, slots=True)
class Sample:
    """The process tree at one moment."""

    fds: int
    rss_bytes: int
    worker_rss_bytes: int
    processes: int
    zombies: int


def measure_soak(advance: Callable[[float], None] = lambda _: None) -> list[Row]:
    """`advance` gets the fraction that is done, 0.0 to 1.0."""
    with tempfile.TemporaryDirectory() as folder, imgserver(**{**CACHES, "disk_path": folder}) as server:
        begun, cpu = time.monotonic(), server.cpu_seconds()
        soak = Soak(server, advance)
        uvloop.run(soak.run())
        seconds, cpu = time.monotonic() - begun, server.cpu_seconds() - cpu
    warm = soak.samples[int(WARM_FRACTION * len(soak.samples)) :]
    grown = max(sample.fds for sample in warm) - warm[0].fds
    rss, worker = (max(getattr(sample, name) for sample in warm) for name in ("rss_bytes", "worker_rss_bytes"))
    zombies = max(sample.zombies for sample in warm)
    done = sum(soak.seen.values())
    raw: dict[str, Any] = {
        "seen": dict(soak.seen),
        "columns": "fds, rss, largest worker's rss, processes, zombies",
        "samples": [(one.fds, one.rss_bytes, one.worker_rss_bytes, one.processes, one.zombies) for one in soak.samples],
    }
    wrong = done - soak.seen["right"]
    return [
        Row(
            f"soak: {REQUESTS:,} mixed requests, wrong or failed",
            f"{wrong} of {done:,}",
            "0",
            wrong == 0 and done == REQUESTS,
            raw,
        ),
        Row("soak: requests per second, CPU per request", f"{done / seconds:,.0f}, {1000 * cpu / done:.2f} ms"),
        Row(
            "soak: descriptors of the server after its warm-up",
            f"{warm[0].fds} +{grown}",
            f"+{FD_ALLOWANCE} at most",
            grown <= FD_ALLOWANCE,
        ),
        Row(
            "soak: largest RSS of the server, and of a worker",
            f"{rss / MEGABYTE:.0f} / {worker / MEGABYTE:.0f} MB",
            "< 120 / < 200 MB",
            rss < SERVER_BYTES and worker < WORKER_BYTES,
        ),
        Row(
            "soak: RSS of the server after its warm-up, and at the end",
            f"{warm[0].rss_bytes / MEGABYTE:.0f} / {warm[-1].rss_bytes / MEGABYTE:.0f} MB",
        ),
        Row("soak: zombies", str(zombies), "0", zombies == 0),
    ]


class Soak:
    def __init__(self, server: Server, advance: Callable[[float], None]) -> None:
        self._server = server
        self._advance = advance
        self._address = urlsplit(server.url)
        self._draw = random.Random(38)
        self._known: dict[str, tuple[bytes, str]] = {}
        self._remaining = REQUESTS
        self.seen: Counter[str] = Counter()
        self.samples: list[Sample] = []

    async def run(self) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.gather(*(self._client() for _ in range(CLIENTS)))

    async def _client(self) -> None:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        try:
            while self._remaining:
                self._remaining -= 1
                if self._remaining % (REQUESTS // SAMPLES) == 0:
                    self._take_sample()
                self.seen[await self._one(reader, writer)] += 1
        finally:
            writer.close()

    def _take_sample(self) -> None:
        self._advance(1 - self._remaining / REQUESTS)
        self.samples.append(sample(self._server.process))

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """ "right", or a description of the wrong response."""
        kind = self._draw.choices(("hot", "304", "range", "wrong", "cold"), (60, 18, 8, 12, 2))[0]
        target = self._draw.choice({"wrong": list(WRONG), "cold": COLD}.get(kind, HOT))
        body, etag = self._known.get(target, (b"", ""))
        if kind in ("304", "range") and not etag:
            kind = "hot"
        header = {"304": f"If-None-Match: {etag}\r\n", "range": "Range: bytes=100-199\r\n"}.get(kind, "")
        status, found, new_etag = await fetch(reader, writer, target, header)
        match kind:
            case "304":
                return "right" if (status, found) == (304, b"") else f"{status} for 304"
            case "range":
                return "right" if (status, found) == (206, body[100:200]) else f"{status} for a range"
            case "wrong":
                return "right" if status == WRONG[target] else f"{status} for {WRONG[target]}"
        if status != 200:
            return f"{status} for 200"
        # Rendering again gives the same bytes and so the same ETag.
        self._known.setdefault(target, (found, new_etag))
        return "right" if self._known[target] == (found, new_etag) else "another picture"


async def fetch(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, header: str
) -> tuple[int, bytes, str]:
    """Sends a request on an open connection. Returns status, body and ETag of the response."""
    writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n{header}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    status, length = int(head[9:12]), _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length is not None and status != 304 else b""
    etag = re.search(rb"(?i)\r\netag: (\S+)\r\n", head)
    return status, body, etag[1].decode() if etag else ""


def sample(process: psutil.Process) -> Sample:
    children = [(child, child.status()) for child in process.children(recursive=True) if child.is_running()]
    living = [child for child, status in children if status != psutil.STATUS_ZOMBIE]
    return Sample(
        fds=process.num_fds(),
        rss_bytes=process.memory_info().rss,
        worker_rss_bytes=max((child.memory_info().rss for child in living), default=0),
        processes=len(living),
        zombies=len(children) - len(living),
    )
