"""The same pictures from thumbor (PyPI) and IPX (npm), if they are installed: CPU, rate and bytes per picture.

Same photographs, widths and JPEG quality; caches off; one process tree each. The results are not equal: their decoders
keep less than twice the target size (softer pictures for less CPU), which `quality.py` shows for libvips.
"""

import asyncio
import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import aiohttp

from benchmarks.harness import SAMPLES, Row, Server, free_port, imgserver, running

TURNS = 3
PHOTOS = ("autumn.jpg", "creek.jpg", "dogs.jpg", "mountains.jpg", "sunset.jpg")
WIDTHS = (400, 800)

Job = tuple[str, int, int]
UrlOf = Callable[[Job], str]


def measure_peers() -> list[Row]:
    """A row per installed server, measured in turns. THUMBOR and IPX name programs that are not on the PATH."""
    with contextlib.ExitStack() as held:
        servers: dict[str, tuple[Server, UrlOf]] = {
            "imgserver": (held.enter_context(imgserver(cache_memory_bytes=0)), our_url)
        }
        for name, (program, start, url_of) in PEERS.items():
            found = os.environ.get(name.upper()) or shutil.which(program)
            if found:
                servers[name] = (held.enter_context(start(found)), url_of)
        turns: dict[str, list[tuple[float, float, int]]] = {name: [] for name in servers}
        for turn in range(TURNS):
            for name, (server, url_of) in servers.items():
                turns[name].append(asyncio.run(_request(server, url_of, turn)))
    rows = [_row(name, turns[name]) for name in turns]
    return rows + [Row(name, "not installed") for name in PEERS if name not in turns]


def our_url(job: Job) -> str:
    photo, width, quality = job
    return f"/img/w_{width},q_{quality},f_jpg/{photo}"


def thumbor_url(job: Job) -> str:
    photo, width, quality = job
    return f"/unsafe/{width}x0/filters:quality({quality}):strip_exif()/{photo}"


def ipx_url(job: Job) -> str:
    photo, width, quality = job
    return f"/w_{width},q_{quality},f_jpeg/{photo}"


@contextlib.contextmanager
def thumbor(program: str) -> Iterator[Server]:
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
        settings.write(
            "LOADER = 'thumbor.loaders.file_loader'\n"
            f"FILE_LOADER_ROOT_PATH = {str(SAMPLES)!r}\n"
            "STORAGE = 'thumbor.storages.no_storage'\nALLOW_UNSAFE_URL = True\n"
        )
        settings.flush()
        command = [program, "--port", str(port), "--ip", "127.0.0.1", "--conf", settings.name, "--processes", "2"]
        with running(command, f"http://127.0.0.1:{port}", "/healthcheck") as server:
            yield server


@contextlib.contextmanager
def ipx(program: str) -> Iterator[Server]:
    port = free_port()
    command = [program, "serve", "--dir", str(SAMPLES), "--port", str(port), "--host", "127.0.0.1"]
    with running(command, f"http://127.0.0.1:{port}", "/w_10/cat.png") as server:
        yield server


PEERS = {"thumbor": ("thumbor", thumbor, thumbor_url), "ipx": ("ipx", ipx, ipx_url)}


async def _request(server: Server, url_of: UrlOf, turn: int) -> tuple[float, float, int]:
    """Wall and CPU seconds for all jobs, and the bytes of the results; three requests in flight."""
    jobs = [(photo, width, 76 + turn) for width in WIDTHS for photo in PHOTOS]
    remaining, received = iter(jobs), 0
    wall, cpu = time.perf_counter(), server.cpu_seconds()

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal received
        for job in remaining:
            async with session.get(server.url + url_of(job)) as answer:
                received += len(await answer.read())
                assert answer.status == 200, (url_of(job), answer.status)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(3)))
    return time.perf_counter() - wall, server.cpu_seconds() - cpu, received


def _row(name: str, turns: list[tuple[float, float, int]]) -> Row:
    count = len(PHOTOS) * len(WIDTHS)
    wall, cpu, received = (statistics.median(column) / count for column in zip(*turns, strict=True))
    value = f"{cpu * 1000:.0f} ms CPU, {1 / wall:.1f} per second, {received / 1000:.1f} kB"
    return Row(f"{name}: a picture", value, raw={"turns": turns})
