"""A server on loopback that says byte for byte what a test wants, and names that resolve as a test wants."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ssl import SSLContext

from aiohttp.abc import AbstractResolver, ResolveResult

BODY = bytes(range(256)) * 400


@dataclass
class Asked:
    """A request's head; names of fields in lower case. `has_left` tells whether the client has closed its side."""

    method: str
    target: str
    fields: dict[str, str]
    has_left: Callable[[], bool]


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class OriginServer:
    """`answers` maps targets to answers; `asked` and `connects` tell what came."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connects: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        self.open.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                asked = read(await reader.readuntil(b"\r\n\r\n"), reader)
                self.asked.append(asked)
                await self.answers.get(asked.target, status(404))(asked, writer)
                await writer.drain()
                if writer.is_closing():
                    break
        self.open.discard(writer)
        writer.close()


def read(head: bytes, reader: asyncio.StreamReader) -> Asked:
    first, *rest = head.decode("latin-1").strip().split("\r\n")
    method, target, _ = first.split(" ")
    fields = (row.partition(":") for row in rest)
    return Asked(method, target, {name.lower(): value.strip() for name, _, value in fields}, reader.at_eof)


@asynccontextmanager
async def origin_server(*hosts: str, tls: SSLContext | None = None, port: int = 0) -> AsyncIterator[OriginServer]:
    """At one port of each host, or of 127.0.0.1."""
    running = OriginServer(port=port)
    listening: list[asyncio.Server] = []
    try:
        for host in hosts or ("127.0.0.1",):
            listening.append(await asyncio.start_server(running.serve, host, running.port, ssl=tls))
            running.port = listening[0].sockets[0].getsockname()[1]
        yield running
    finally:
        for server in listening:
            server.close()
        for writer in list(running.open):
            writer.transport.abort()
        while running.open:
            await asyncio.sleep(0.005)


def head(code: int, **fields: object) -> bytes:
    """`Content_Length=5` is `Content-Length: 5`."""
    rows = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {code} X\r\n{rows}\r\n".encode("latin-1")


def body(data: bytes = BODY, code: int = 200, **fields: object) -> Answer:
    """A whole answer; to HEAD its head."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(code, **{"Content_Length": len(data), **fields}))
        if asked.method != "HEAD":
            writer.write(data)

    return answer


def status(code: int, **fields: object) -> Answer:
    return body(b"", code, **fields)


def redirect(location: str, code: int = 302) -> Answer:
    return body(b"<html>elsewhere</html>", code, Location=location)


def cut(data: bytes, **fields: object) -> Answer:
    """A head, some bytes, and an orderly end of the connection."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, **fields) + data)
        await writer.drain()
        writer.close()

    return answer


def reset(data: bytes = b"") -> Answer:
    """Some bytes, and a RST behind them."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.02)  # a RST overtakes bytes that nobody has read yet
        writer.transport.abort()

    return answer


def endless(chunk: bytes = bytes(65_536), pause_seconds: float = 0.0, **fields: object) -> Answer:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, **fields))
        while not asked.has_left():
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return answer


def stalled(data: bytes = b"") -> Answer:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        while not asked.has_left():
            await asyncio.sleep(0.01)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """One after another; the last one stays."""
    left = list(answers)

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(asked, writer)

    return answer


class Names(AbstractResolver):
    """`names["a.example"]` is a list of answers, each a list of addresses or an error; the last one stays."""

    def __init__(self, names: dict[str, list[list[str] | OSError]]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.names.get(host, [])
        answer = answers.pop(0) if len(answers) > 1 else (answers or [socket.gaierror(socket.EAI_NONAME, "no name")])[0]
        if isinstance(answer, OSError):
            raise answer
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        pass
