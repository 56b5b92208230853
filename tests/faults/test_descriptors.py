"""A server that may open few files, and more clients than that."""

import socket
from contextlib import ExitStack

import psutil
import pytest

from tests.running_server import serving, wait_until

LIMIT = 64


def get(width: int) -> bytes:
    return b"GET /img/w_%d/cat.png HTTP/1.1\r\nHost: a\r\n\r\n" % width


def test_more_clients_than_descriptors_leave_enough_for_pictures_and_probes():
    with (
        serving(workers_count=1, under=("prlimit", f"--nofile={LIMIT}"), disk_limit_bytes=0) as server,
        ExitStack() as held,
    ):
        wait_until(lambda: len(server.workers()) == 2, "all workers are up")
        process = psutil.Process(server.process.pid)
        for _ in range(2 * LIMIT):
            connected(held, server.port)
        answers = [server.ask(target) for target in ("/livez", "/img/w_50/cat.png", "/img/w_50/cat.png")]

        assert [answer.status for answer in answers] == [200, 200, 200]
        assert process.num_fds() < LIMIT
        limits = [event for event in server.events() if event["event"] == "connections.limited_by_descriptors"]
        assert [(event["limit"] < LIMIT, event["configured"]) for event in limits] == [(True, 2048)]
        assert server.metric("imgserver_http_connections_limit") == limits[0]["limit"]


def test_the_soft_limit_is_raised_to_the_hard_limit():
    with serving(workers_count=1, under=("prlimit", "--nofile=64:2048")) as server:
        assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (2048, 2048)


def test_a_server_without_free_descriptors_refuses_misses_serves_hits_and_recovers():
    """The limit is lowered while the server runs, so that connections may still take all descriptors."""
    with serving(workers_count=1, disk_limit_bytes=0) as server, ExitStack() as held:
        wait_until(lambda: len(server.workers()) == 2, "all workers are up")
        assert server.ask("/img/w_50/cat.png").status == 200
        process = psutil.Process(server.process.pid)
        process.rlimit(psutil.RLIMIT_NOFILE, (LIMIT, LIMIT))
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
