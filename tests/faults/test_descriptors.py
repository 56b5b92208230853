"""A server with a limit of 64 open files, and more clients than that."""

import socket
from contextlib import ExitStack

import psutil
import pytest

from tests.running_server import serving, wait_until

LIMIT = 64


def get(width: int) -> bytes:
    return b"GET /img/w_%d/cat.png HTTP/1.1\r\nHost: a\r\n\r\n" % width


def test_a_server_without_free_descriptors_refuses_misses_serves_hits_and_recovers():
    with (
        serving(workers_count=1, under=("prlimit", f"--nofile={LIMIT}"), disk_limit_bytes=0) as server,
        ExitStack() as held,
    ):
        wait_until(lambda: len(server.workers()) == 2, "all workers are up")
        assert server.ask("/img/w_50/cat.png").status == 200
        process = psutil.Process(server.process.pid)
        mine, *others = (connected(held, server.port) for _ in range(2 * LIMIT))
        wait_until(lambda: process.num_fds() == LIMIT, "no descriptor is left")

        assert [server.send(get(50), patience=1) for _ in range(5)] == [b""] * 5
        assert answer_to(mine, get(51)).startswith(b"HTTP/1.1 503 ")
        assert answer_to(mine, get(50)).startswith(b"HTTP/1.1 200 ")
        used = sum(process.cpu_times()[:2])
        mine.settimeout(0.5)
        with pytest.raises(TimeoutError):
            mine.recv(1)
        assert sum(process.cpu_times()[:2]) - used < 0.1
        for other in others:
            other.close()
        wait_until(lambda: answer_to(mine, get(52)).startswith(b"HTTP/1.1 200 "), "pictures again")
        assert len(server.log.read_text().splitlines()) < 20


def connected(held: ExitStack, port: int) -> socket.socket:
    return held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))


def answer_to(connection: socket.socket, request: bytes) -> bytes:
    """Head and body of the next response on a persistent connection."""
    connection.settimeout(5)
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
