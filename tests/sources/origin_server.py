"""A scripted web server on loopback, which sends the bytes that a test wants, and a scripted resolver."""

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
class ReceivedRequest:
    """The head of a request, with field names in lower case. `is_disconnected` returns whether the client has closed
    the connection."""

    method: str
    target: str
    fields: dict[str, str]
    is_disconnected: Callable[[], bool]


Answer = Callable[[ReceivedRequest, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class OriginServer:
    """`answers` maps targets to answers. `requests` and `connects` record what was received."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[ReceivedRequest] = field(default_factory=list)
    connects: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        self.open.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = parse_head(await reader.readuntil(b"\r\n\r\n"), reader)
                self.requests.append(request)
                await self.answers.get(request.target, status(404))(request, writer)
                await writer.drain()
                if writer.is_closing():
                    break
        self.open.discard(writer)
        writer.close()


def parse_head(head: bytes, reader: asyncio.StreamReader) -> ReceivedRequest:
    first, *rest = head.decode("latin-1").strip().split("\r\n")
    method, target, _ = first.split(" ")
    fields = (row.partition(":") for row in rest)
    return ReceivedRequest(method, target, {name.lower(): value.strip() for name, _, value in fields}, reader.at_eof)


@asynccontextmanager
async def origin_server(*hosts: str, tls: SSLContext | None = None, port: int = 0) -> AsyncIterator[OriginServer]:
    """Listens on one port of each host; without hosts on 127.0.0.1."""
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
    """A status line and header fields: `Content_Length=5` becomes `Content-Length: 5`."""
    rows = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {code} X\r\n{rows}\r\n".encode("latin-1")


def body(data: bytes = BODY, code: int = 200, **fields: object) -> Answer:
    """A complete response; for HEAD without its body."""

    async def answer(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(head(code, **{"Content_Length": len(data), **fields}))
        if request.method != "HEAD":
            writer.write(data)

    return answer


def status(code: int, **fields: object) -> Answer:
    return body(b"", code, **fields)


def redirect(location: str, code: int = 302) -> Answer:
    return body(b"<html>elsewhere</html>", code, Location=location)


def cut(data: bytes, **fields: object) -> Answer:
    """A head and some bytes; then the connection is closed."""

    async def answer(_: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, **fields) + data)
        await writer.drain()
        writer.close()

    return answer


def reset(data: bytes = b"") -> Answer:
    """Some bytes, followed by a TCP reset."""

    async def answer(_: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.02)  # a reset discards bytes that the client has not read yet
        writer.transport.abort()

    return answer


def endless(chunk: bytes = bytes(65_536), pause_seconds: float = 0.0, **fields: object) -> Answer:
    async def answer(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, **fields))
        while not request.is_disconnected():
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return answer


def stalled(data: bytes = b"") -> Answer:
    async def answer(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        while not request.is_disconnected():
            await asyncio.sleep(0.01)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """The answers in turn; the last one is repeated."""
    remaining = list(answers)

    async def answer(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await (remaining.pop(0) if len(remaining) > 1 else remaining[0])(request, writer)

    return answer


class ScriptedResolver(AbstractResolver):
    """`names["a.example"]` is a list of answers, each a list of IP addresses or an error; the last one is repeated."""

    def __init__(self, names: dict[str, list[list[str] | OSError]]) -> None:
        self.names = names
        self.lookups: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        self.lookups.append(host)
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
