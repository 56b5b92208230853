"""The scripted web server of `sources/origin_server.py` in a thread of its own, for tests without an event loop."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image

from tests.sources.origin_server import Answer, OriginServer, ReceivedRequest, origin_server


@contextmanager
def threaded_origin(*hosts: str, port: int = 0) -> Iterator[OriginServer]:
    """The running server. Its `answers` may be changed at any time."""
    loop = asyncio.new_event_loop()
    running: list[OriginServer] = []
    failed: list[BaseException] = []
    ready, done = threading.Event(), asyncio.Event()

    async def main() -> None:
        try:
            async with origin_server(*hosts, port=port) as origin:
                running.append(origin)
                ready.set()
                await done.wait()
        except OSError as error:
            failed.append(error)
            ready.set()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        if failed:
            raise failed[0]
        yield running[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)


def late(answer: Answer, seconds: float) -> Answer:
    async def answered(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await answer(request, writer)

    return answered


def trickled(data: bytes, *, bytes_per_second: float = 1.0) -> Answer:
    """A head that promises the whole body, followed by single bytes."""

    async def answered(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        for at in range(len(data)):
            writer.write(data[at : at + 1])
            await writer.drain()
            await asyncio.sleep(1 / bytes_per_second)
            if request.is_disconnected():
                return

    return answered


def revalidated(data: bytes, etag: str, **fields: object) -> Answer:
    """304 for a conditional request with this ETag, otherwise 200."""

    async def answered(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rows = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in {"ETag": etag, **fields}.items())
        if request.fields.get("if-none-match") == etag:
            writer.write(f"HTTP/1.1 304 X\r\n{rows}\r\n".encode())
            return
        writer.write(f"HTTP/1.1 200 X\r\n{rows}Content-Length: {len(data)}\r\n\r\n".encode())
        if request.method != "HEAD":
            writer.write(data)

    return answered


def photo(color: str = "teal", size: tuple[int, int] = (240, 160)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, color).save(file, "JPEG")
    return file.getvalue()


def downloads(origin: OriginServer, target: str) -> int:
    """The number of GET requests for the target so far."""
    return sum(request.target == target and request.method == "GET" for request in list(origin.requests))


def held(answer: Answer) -> tuple[Answer, Callable[[], None]]:
    """The answer, which waits until the returned function is called."""
    released = threading.Event()

    async def answered(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        while not released.is_set():
            await asyncio.sleep(0.005)
        await answer(request, writer)

    return answered, released.set
