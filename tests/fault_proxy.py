"""A TCP proxy that injects faults: slow, stalled, trickling, corrupt or reset connections. Loopback only."""

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
    """The faults of replies from now on. Tests may change the attributes at any time."""

    delay_seconds: float = 0.0
    bytes_per_second: float = 0.0
    """0 means no limit; otherwise replies arrive in fifty pieces per second."""
    stalled: bool = False
    """Nothing passes in either direction; connecting still works."""
    corrupt_fraction: float = 0.0
    """The fraction of replies with one flipped bit, from 0.0 to 1.0."""
    truncated: bool = False
    """The first half of a reply is sent, then the connection is closed."""


class FaultProxy:
    """Forwards connections to `port` on to `target`, with the faults in `faults`."""

    def __init__(self, target: int) -> None:
        self.faults = Faults()
        self.port = 0
        self.accepted = 0
        self._target = target
        self._draw = random.Random(1)
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """Ends every open connection with a RST, also in the middle of a reply."""
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
            asyncio.create_task(self._pump(far_reader, writer, self._inject)),
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

    async def _inject(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        faults = self.faults
        if faults.delay_seconds:
            await asyncio.sleep(faults.delay_seconds)
        if self._draw.random() < faults.corrupt_fraction:
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
