"""A TCP proxy that spoils a connection on demand: slow, stalled, trickling, corrupt, reset. Loopback only."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

CHUNK_BYTES = 1 << 16


@dataclass
class Faults:
    """What happens to replies from now on; plain attributes, to be changed at any time."""

    delay_seconds: float = 0.0
    bytes_per_second: float = 0.0
    """0 is no limit; else replies come in fifty pieces a second."""
    stalled: bool = False
    """Nothing passes in either direction; connecting still works."""
    corrupt_share: float = 0.0
    """The share of replies with one flipped bit."""
    truncated: bool = False
    """A reply is cut in half, and the connection is closed in order."""


class FaultProxy:
    """`port` leads to `target`; `faults` says how well."""

    def __init__(self, target: int) -> None:
        self.faults = Faults()
        self.port = 0
        self.accepted = 0
        self._target = target
        self._draw = random.Random(1)
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """Every open connection ends with a RST, in the middle of whatever it carries."""
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer, self._pass)),
            asyncio.create_task(self._pump(far_reader, writer, self._spoil)),
        ]
        self._pumps |= set(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for end in (writer, far_writer):
                self._writers.discard(end)
                end.close()
            self._pumps -= set(pumps)

    async def _pump(self, reader, writer, forward) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(CHUNK_BYTES):
                while self.faults.stalled:
                    await asyncio.sleep(0.005)
                await forward(writer, data)

    async def _pass(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    async def _spoil(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        faults = self.faults
        if faults.delay_seconds:
            await asyncio.sleep(faults.delay_seconds)
        if self._draw.random() < faults.corrupt_share:
            bit = self._draw.randrange(len(data) * 8)
            data = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        if faults.truncated:
            await self._pass(writer, data[: len(data) // 2])
            raise ConnectionResetError
        piece = max(1, int(faults.bytes_per_second / 50)) if faults.bytes_per_second else len(data)
        for start in range(0, len(data), piece):
            await self._pass(writer, data[start : start + piece])
            if faults.bytes_per_second:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def proxied(target: int) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.reset()
        while proxy._writers:
            await asyncio.sleep(0.005)
