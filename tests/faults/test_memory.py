"""The memory of the server process: texts of clients do not accumulate, and neither does the second pass over many
originals."""

import asyncio
import io
import os
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.hostile_urls import HostileClient, send_all
from tests.running_server import ServerProcess, serving

pytestmark = pytest.mark.alone

MEGABYTE = 1_000_000
REQUESTS = 20_000
ORIGINALS = 300


def rss(server: ServerProcess) -> int:
    return psutil.Process(server.process.pid).memory_info().rss


def test_20_000_hostile_urls_add_less_than_10_megabytes():
    client = HostileClient()
    with serving(workers_count=1, disk_limit_bytes=0, http_client_hints="true") as server:
        # Pools, threads and free lists of the interpreter.
        asyncio.run(send_all(server.port, client.requests(10)))
        before = rss(server)
        seen = asyncio.run(send_all(server.port, client.requests(REQUESTS // len(client.kinds))))
        grown = rss(server) - before

    assert seen.total() > REQUESTS - 100
    assert 500 not in seen
    assert grown < 10 * MEGABYTE, seen


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(ORIGINALS):
        file = io.BytesIO()
        Image.effect_noise((64, 48), 50 + number / 10).save(file, "PNG")
        (tmp_path / f"{number}.png").write_bytes(file.getvalue() + os.urandom(8))
    return tmp_path


def test_a_second_pass_over_many_originals_adds_nothing(photos):
    settings = {"workers_count": 1, "disk_limit_bytes": 0, "cache_memory_bytes": 200_000}
    targets = [(f"/img/w_{width}/{number}.png", "") for number in range(ORIGINALS) for width in (40, 50)]
    sizes = []
    with serving(photos, **settings) as server:
        for _ in range(3):
            seen = asyncio.run(send_all(server.port, targets))
            sizes.append(rss(server))

    assert seen == {200: len(targets)}
    # The memory tier holds a tenth of the renditions, so each pass renders almost all of them again.
    assert sizes[2] - sizes[1] < MEGABYTE
