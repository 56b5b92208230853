"""The same pictures from thumbor (PyPI) and IPX (npm), where they are installed: CPU, rate and bytes per rendition.

Same photographs, widths and JPEG quality; caches off; one process tree each. Not equal by nature: their decoders keep
less than twice the size (softer pictures for less CPU), which `quality.py` shows for libvips.
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
Address = Callable[[Job], str]


def measure_rivals() -> list[Row]:
    """A row per server that is here, all asked in turns. THUMBOR and IPX name their programs if not on the PATH."""
    with contextlib.ExitStack() as held:
        servers: dict[str, tuple[Server, Address]] = {
            "imgserver": (held.enter_context(imgserver(cache_memory_bytes=0)), our_address)
        }
        for name, (program, start, address) in RIVALS.items():
            found = os.environ.get(name.upper()) or shutil.which(program)
            if found:
                servers[name] = (held.enter_context(start(found)), address)
        turns: dict[str, list[tuple[float, float, int]]] = {name: [] for name in servers}
        for turn in range(TURNS):
            for name, (server, address) in servers.items():
                turns[name].append(asyncio.run(_ask(server, address, turn)))
    rows = [_row(name, turns[name]) for name in turns]
    return rows + [Row(name, "not installed") for name in RIVALS if name not in turns]


def our_address(job: Job) -> str:
    photo, width, quality = job
    return f"/img/w_{width},q_{quality},f_jpg/{photo}"


def thumbor_address(job: Job) -> str:
    photo, width, quality = job
    return f"/unsafe/{width}x0/filters:quality({quality}):strip_exif()/{photo}"


def ipx_address(job: Job) -> str:
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


RIVALS = {"thumbor": ("thumbor", thumbor, thumbor_address), "ipx": ("ipx", ipx, ipx_address)}


async def _ask(server: Server, address: Address, turn: int) -> tuple[float, float, int]:
    """Wall and CPU seconds for all jobs, and the bytes of the results; three requests under way."""
    jobs = [(photo, width, 76 + turn) for width in WIDTHS for photo in PHOTOS]
    left, received = iter(jobs), 0
    wall, cpu = time.perf_counter(), server.cpu_seconds()

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal received
        for job in left:
            async with session.get(server.url + address(job)) as answer:
                received += len(await answer.read())
                assert answer.status == 200, (address(job), answer.status)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(3)))
    return time.perf_counter() - wall, server.cpu_seconds() - cpu, received


def _row(name: str, turns: list[tuple[float, float, int]]) -> Row:
    count = len(PHOTOS) * len(WIDTHS)
    wall, cpu, received = (statistics.median(column) / count for column in zip(*turns, strict=True))
    value = f"{cpu * 1000:.0f} ms CPU, {1 / wall:.1f} per second, {received / 1000:.1f} kB"
    return Row(f"{name}: a rendition", value, raw={"turns": turns})
