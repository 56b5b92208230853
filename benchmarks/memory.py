"""The memory of the server process over passes of many originals, and of requests whose texts all differ."""

import asyncio
import io
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from benchmarks.harness import MEGABYTE, Row, Server, imgserver
from tests.hostile_urls import HostileClient, Request, send_all

ORIGINALS = 7_000
WIDTHS = (40, 50)
HOSTILE_REQUESTS = 20_000
PASSES = 3
# The first pass fills the tables, the memory tier, the pools and the free lists of the interpreter.
HOSTILE_BYTES = 10 * MEGABYTE
LATER_BYTES = 3 * MEGABYTE
# The tier below memory has an index in memory, so both tiers are small here.
MEMORY_TIER_BYTES = 8 << 20


def measure_memory() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ORIGINALS):
            _write_photo(Path(folder) / f"{number}.png", number)
        with imgserver(folder=Path(folder), cache_memory_bytes=MEMORY_TIER_BYTES) as server:
            targets = [(f"/img/w_{width}/{number}.png", "") for number in range(ORIGINALS) for width in WIDTHS]
            originals = _growth(server, lambda: targets)
    client = HostileClient()
    per_kind = HOSTILE_REQUESTS // len(client.kinds)
    with imgserver(http_client_hints="true") as server:
        _send(server, list(client.requests(10)))
        hostile = _growth(server, lambda: list(client.requests(per_kind)))
    return [
        _row(f"{ORIGINALS:,} originals, {len(WIDTHS)} sizes each", originals, MEMORY_TIER_BYTES + HOSTILE_BYTES),
        _row(f"{HOSTILE_REQUESTS:,} hostile URLs", hostile, HOSTILE_BYTES),
    ]


def _growth(server: Server, requests: Callable[[], list[Request]]) -> list[int]:
    """How many bytes the process has grown by in each pass."""
    sizes = [server.rss_bytes()]
    for _ in range(PASSES):
        _send(server, requests())
        sizes.append(server.rss_bytes())
    return [after - before for before, after in itertools.pairwise(sizes)]


def _send(server: Server, requests: list[Request]) -> None:
    asyncio.run(send_all(urlsplit(server.url).port or 0, requests))


def _row(what: str, growth: list[int], first_bytes: int) -> Row:
    texts = ", ".join(f"{bytes_grown / MEGABYTE:+.1f}" for bytes_grown in growth)
    return Row(
        f"memory: {what}: growth of the server in each pass",
        f"{texts} MB",
        f"< {first_bytes / MEGABYTE:.0f}, then < {LATER_BYTES / MEGABYTE:.0f} MB",
        growth[0] < first_bytes and all(later < LATER_BYTES for later in growth[1:]),
        {"bytes": growth},
    )


def _write_photo(path: Path, number: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (number % 256, number // 256, 128)).save(file, "PNG")
    path.write_bytes(file.getvalue())
