"""Limits of connections: slow headers, too many connections, malformed requests. With raw sockets on loopback."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.running_server import ServerProcess, serving, wait_until

KEY = "a key for the tests 1234"
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def strict():
    with serving(workers_count=1, server_header_timeout_seconds=0.5, admin_key=KEY) as running:
        yield running


def test_a_header_that_never_ends_is_answered_with_408(strict: ServerProcess):
    begun = time.monotonic()
    answer = strict.send(GET)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begun < 3


def test_a_header_that_arrives_byte_by_byte_is_answered_with_408(strict):
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        connection.sendall(GET + b"X: ")
        connection.settimeout(0.1)
        answer = b""
        limit = time.monotonic() + 5
        while not answer and time.monotonic() < limit:
            try:
                connection.sendall(b"X")
                answer = connection.recv(100)
            except TimeoutError:
                continue

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_connection_may_be_idle_longer_than_a_header_may_take(strict):
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        connection.sendall(GET + b"\r\n")
        assert b"200 OK" in connection.recv(4096)
        connection.settimeout(1.0)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        connection.sendall(GET + b"\r\n")
        assert b"200 OK" in connection.recv(4096)


def test_a_connection_without_a_byte_is_closed_after_the_header_timeout(strict):
    before = strict.metric("imgserver_http_overdue_total", what="header")
    begun = time.monotonic()

    assert strict.send(b"") == b""
    assert time.monotonic() - begun < 3
    assert strict.metric("imgserver_http_overdue_total", what="header") == before + 1


POST = f"POST /api/admin/purge HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n".encode()
# The server reads the body before it answers.
WITH_LENGTH = POST + b"Content-Length: 2\r\n\r\n{}"
IN_CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
PACKETS = [(WITH_LENGTH,), (WITH_LENGTH[:-2], WITH_LENGTH[-2:]), (WITH_LENGTH[:-1], WITH_LENGTH[-1:]), (IN_CHUNKS,)]


@pytest.mark.parametrize("packets", PACKETS)
def test_a_part_of_a_header_behind_a_whole_request_is_answered_with_408(strict, packets):
    *first, last = packets
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        for packet in first:
            connection.sendall(packet)
            wait_until(lambda: is_read(connection), "the server has read it")
        connection.sendall(last + GET)

        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"}HTTP/1.1 408 " in received


@pytest.mark.parametrize("packets", PACKETS)
def test_a_connection_may_be_idle_after_a_body_too(strict, packets):
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        for packet in packets:
            connection.sendall(packet)
            wait_until(lambda: is_read(connection), "the server has read it")
        connection.settimeout(0.8)
        with pytest.raises(TimeoutError):
            read_all(connection)


def is_read(connection: socket.socket) -> bool:
    """Whether the peer, a process of this machine, has read everything that was sent."""
    port = connection.getsockname()[1]
    mine = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, _, queues, *_ = line.split()
        if remote == mine:
            return int(queues.partition(":")[2], 16) == 0
    return False


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


@pytest.fixture(scope="module")
def crowded() -> Iterator[ServerProcess]:
    with serving(workers_count=1, server_max_connections=LIMIT) as running:
        assert running.ask("/img/w_40/cat.png").status == 200
        yield running


LIMIT = 8
# What a client sends before it waits.
IDLE = {
    "nothing": b"",
    "a part of a header": GET + b"X: ",
    "a whole request": GET + b"\r\n",
    "a request for a picture": b"GET /img/w_40/cat.png HTTP/1.1\r\nHost: a\r\n\r\n",
    "a part of a body that nobody reads": b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx",
}


@pytest.mark.parametrize("first", IDLE.values(), ids=IDLE)
def test_idle_connections_above_the_limit_make_place_for_new_ones(crowded, first):
    before = crowded.metric("imgserver_http_connections_shed_total", what="idle")
    with ExitStack() as held:
        for _ in range(3 * LIMIT):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", crowded.port), timeout=5))
            connection.sendall(first)
            if first.endswith(b"\r\n\r\n"):
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        answers = [crowded.ask(target) for target in ("/livez", "/img/w_40/cat.png")]

    assert [answer.status for answer in answers] == [200, 200]
    assert max(answer.seconds for answer in answers) < 1
    assert crowded.metric("imgserver_http_connections_shed_total", what="idle") >= before + 2 * LIMIT
    assert crowded.metric("imgserver_http_connections_shed_total", what="new") == 0


def test_the_client_with_most_idle_connections_loses_one(crowded):
    with ExitStack() as held:
        mine = held.enter_context(socket.create_connection(("127.0.0.1", crowded.port), timeout=5))
        for _ in range(3 * LIMIT):
            other = ("127.0.0.2", 0)
            held.enter_context(socket.create_connection(("127.0.0.1", crowded.port), timeout=5, source_address=other))
        mine.sendall(GET + b"\r\n")

        assert mine.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_full_server_logs_one_line_a_minute(crowded):
    with ExitStack() as held:
        for _ in range(5 * LIMIT):
            held.enter_context(socket.create_connection(("127.0.0.1", crowded.port), timeout=5))
        assert crowded.ask("/livez").status == 200

    def evicted() -> list[int]:
        return [event["evicted"] for event in crowded.events() if event["event"] == "connections.limit_reached"]

    wait_until(lambda: evicted() != [], "it is logged")
    assert evicted() == [1]


PICTURE = b"/img/w_40/cat.png"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
# Requests that two parsers may split differently, so that one sees a body where the other one sees a request.
MALFORMED = {
    "length and chunks": b"GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "a space before the colon": b"GET %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"GET %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks not last": b"GET %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"GET %s HTTP/1.0\r\nHost: a\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "two lengths": b"GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "one length twice": b"GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    "a signed length": b"GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "a negative length": b"GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
    "a hexadecimal length": b"GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
    "bare line feeds": b"GET %s HTTP/1.1\nHost: a\n\n",
    "one bare line feed": b"GET %s HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "a bare carriage return": b"GET %s HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare line feeds in chunks": b"GET %s HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"\r\n3\nabc\n0\n\n",
    "a bare line feed in a chunk": b"GET %s HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a negative chunk": b"GET %s HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"\r\n-3\r\nabc\r\n0\r\n\r\n",
    "no host": b"GET %s HTTP/1.1\r\n\r\n",
    "two hosts": b"GET %s HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a folded field": b"GET %s HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
    "a folded first field": b"GET %s HTTP/1.1\r\n Host: a\r\n\r\n",
    "a field without a name": b"GET %s HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "a NUL in the target": b"GET %s\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a NUL in a field": b"GET %s HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "a target not ASCII": b"GET %s\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET %s b HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET %s\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(range(64, 96)) + b"\r\n\r\n",
    "an unknown method": b"FOO %s HTTP/1.1\r\nHost: a\r\n\r\n",
    "a host with a space": b"GET %s HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a host with a path": b"GET %s HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a host with credentials": b"GET %s HTTP/1.1\r\nHost: user@a\r\n\r\n",
    "a host with a bad port": b"GET %s HTTP/1.1\r\nHost: a:http\r\n\r\n",
    "a host with an open bracket": b"GET %s HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "an unknown version": b"GET %s HTTP/3.7\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_refused_and_the_connection_closed(server: ServerProcess, raw):
    answer = server.send(raw.replace(b"%s", PICTURE) + GET + b"\r\n", patience=2)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.") == 1
    assert b"\r\nCache-Control: no-store\r\n" in answer


@pytest.mark.parametrize("target", ["/%2569mg/cat.png", "http://other.example//img/cat.png", "//img/cat.png", "/img"])
def test_only_the_exact_mount_serves_images(server, target):
    assert server.ask(target).status in (400, 404)
