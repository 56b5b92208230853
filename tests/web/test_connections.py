"""Limits of connections: slow headers, too many connections, malformed requests. With raw sockets on loopback."""

import socket
import time

import pytest

from tests.running_server import ServerProcess, serving, wait_until

GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def strict():
    with serving(workers_count=1, server_header_timeout_seconds=0.5, server_max_connections=8) as running:
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


def test_connections_above_the_limit_are_closed_until_others_close(strict):
    held = [socket.create_connection(("127.0.0.1", strict.port), timeout=5) for _ in range(8)]
    try:
        wait_until(lambda: strict.send(GET + b"\r\n", patience=0.2) == b"", "a new connection is closed")
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: _answers(strict), "a new connection is accepted")


def _answers(server: ServerProcess) -> bool:
    return b"200 OK" in server.send(GET + b"Connection: close\r\n\r\n", patience=0.5)


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
    "an unknown version": b"GET %s HTTP/3.7\r\nHost: a\r\n\r\n",
    "a line too long": b"GET %s" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a field too long": b"GET %s HTTP/1.1\r\nHost: a\r\nCookie: " + b"a" * 9000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_refused_and_the_connection_closed(server: ServerProcess, raw):
    answer = server.send(raw.replace(b"%s", PICTURE) + GET + b"\r\n", patience=2)

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert answer.count(b"HTTP/1.") == 1
    assert b"\r\nCache-Control: no-store\r\n" in answer


def test_a_header_that_is_too_long_for_the_parser_is_reported(server):
    answer = server.send(GET + b"Cookie: " + b"a" * 9000 + b"\r\n\r\n", patience=2)

    assert b"a header field is longer than 8190 bytes" in answer


@pytest.mark.parametrize("target", ["/%69mg/cat.png", "http://other.example//img/cat.png", "//img/cat.png", "/img"])
def test_only_the_exact_mount_serves_images(server, target):
    assert server.ask(target).status in (400, 404)
