"""One application that listens twice in this process: with the fast path and without it."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from io import BytesIO

from aiohttp import web

from imgserver.cache.disk import DiskSettings
from imgserver.settings.schema import DefaultSource, ServerSettings, Settings
from imgserver.web.app import BOUNDARY, CONNECTIONS, FAST_PATH, IMAGES, LOGGER, MOUNTS, make_app
from imgserver.web.connections import Connection
from imgserver.web.fast_path import connection_factory
from imgserver.web.site import Site
from tests.running_server import SAMPLES

PICTURE = "/img/w_40/cat.png"
NEGOTIATED = "/img/w_40,f_auto/cat.png"


class FastPathServer:
    """`answered` tells of each message that the fast path was offered whether it answered."""

    def __init__(self, app: web.Application, server: web.Server, log: BytesIO) -> None:
        self.app, self.server, self.log = app, server, log
        self.answered: list[bool] = []
        self.fast_port = self.framework_port = 0

    def answer(self, message, peer):
        response = self.app[FAST_PATH].answer(message, peer)
        self.answered.append(response is not None)
        return response

    async def fetch(self, request: bytes, *, responses: int = 1) -> bytes:
        """Sends the bytes to the port with the fast path, and returns that many responses."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.fast_port)
        try:
            writer.write(request)
            return b"".join([await read_response(reader, request) for _ in range(responses)])
        finally:
            writer.close()
            await writer.wait_closed()

    async def warm(self, *targets: str) -> None:
        """Brings the renditions into memory."""
        for target in targets:
            for _ in range(2):
                await self.fetch(get(target, "Accept: image/avif,image/webp"))
                await self.fetch(get(target))
        self.answered.clear()


async def read_response(reader: asyncio.StreamReader, request: bytes = b"GET") -> bytes:
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        return head + await reader.readexactly(int(length[1]) if length and not request.startswith(b"HEAD") else 0)


def get(target: str, *headers: str, method: str = "GET", version: str = "1.1", host: Iterable[str] = ("Host: a",)):
    return "\r\n".join([f"{method} {target} HTTP/{version}", *host, *headers, "", ""]).encode()


@asynccontextmanager
async def fast_path_server(**settings: object) -> AsyncIterator[FastPathServer]:
    sections = {"source": DefaultSource(root=SAMPLES), "server": ServerSettings(), "disk": DiskSettings(limit_bytes=0)}
    log = BytesIO()
    app = make_app(Settings(**(sections | settings)), log_stream=log)
    runner = web.AppRunner(app, handle_signals=False, handler_cancellation=True)
    await runner.setup()
    running = FastPathServer(app, runner.server, log)
    sites = []
    try:
        for connect in (connection_factory(running.answer, app[LOGGER]), Connection):
            listener = socket.create_server(("127.0.0.1", 0))
            connections = app[CONNECTIONS]
            handlers = {"mounts": app[MOUNTS], "images": app[IMAGES], "boundary": app[BOUNDARY]}
            site = Site(runner.server, listener, connections, **handlers, connect=connect)
            await site.start()
            sites.append((site, listener.getsockname()[1]))
        (_, running.fast_port), (_, running.framework_port) = sites
        yield running
    finally:
        for site, _ in sites:
            site.stop()
        await runner.cleanup()
