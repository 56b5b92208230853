"""Redis with TLS for tests: a redis-server with a certificate, or a TLS terminator in front of one without TLS."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trustme

from tests.ports import free_port
from tests.redis_server import RedisServer, binary, running


def can_tls() -> bool:
    """Whether redis-server was built with TLS. Only then does the binary contain the names of the settings."""
    return b"tls-ca-cert-file" in Path(binary()).resolve().read_bytes()


@contextmanager
def running_with_tls(
    folder: Path, authority: trustme.CA, *, host: str, natively: bool
) -> Iterator[tuple[RedisServer, int]]:
    """A server whose certificate is for `host`, and its TLS port."""
    certificate = authority.issue_cert(host)
    if not natively:
        with running(folder) as server, _terminated(server.port, certificate) as port:
            yield server, port
        return
    key, chain = folder / "key.pem", folder / "chain.pem"
    certificate.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    port = free_port()
    options = ("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-key-file", str(key))
    with running(folder, *options, "--tls-cert-file", str(chain)) as server:
        yield server, port


@contextmanager
def _terminated(target: int, certificate: trustme.LeafCert) -> Iterator[int]:
    """A TLS port that forwards to a plain one, served by a thread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        try:
            await asyncio.wait(
                [asyncio.create_task(_pump(reader, far_writer)), asyncio.create_task(_pump(far_reader, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            writer.close()
            far_writer.close()

    async def stop(server: asyncio.Server) -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wait(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    server = wait(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        wait(stop(server))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
