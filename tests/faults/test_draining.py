"""A server that stops: it finishes what it has accepted, refuses what is new, and ends with exit code 0."""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from PIL import Image

from tests.running_server import SAMPLES, ServerProcess, serving, wait_until
from tests.sources.origin_server import OriginServer, body
from tests.threaded_origin import held, photo, threaded_origin

LARGE = "/img/f_png/large.png"
UPLOAD = (SAMPLES / "cat.png").read_bytes()
UPLOAD_HEAD = (
    b"POST /api/image/optimize HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    b"Content-Length: %d\r\n\r\n" % len(UPLOAD)
)


@pytest.fixture(scope="module")
def origin() -> Iterator[OriginServer]:
    with threaded_origin() as one:
        yield one


@pytest.fixture
def folder(tmp_path):
    """Has an image whose response is larger than the buffers of the kernel."""
    Image.effect_noise((2600, 2600), 120).save(tmp_path / "large.png")
    (tmp_path / "cat.png").write_bytes(UPLOAD)
    return tmp_path


@contextmanager
def draining_server(place, origin: OriginServer, **settings: object) -> Iterator[ServerProcess]:
    far = {"sources_shop_url": f"http://127.0.0.1:{origin.port}/", "sources_shop_allowed_networks": "127.0.0.0/8"}
    with serving(place, workers_count=1, **far, **settings) as server:
        yield server


def connect(server: ServerProcess, first: bytes) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(first)
    return connection


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while chunk := connection.recv(1 << 16):
        received += chunk
    return bytes(received)


def is_draining(server: ServerProcess) -> bool:
    return any(event["event"] == "server.draining" for event in server.events())


def test_accepted_requests_are_finished_and_new_ones_refused(origin, folder):
    origin.answers["/late.jpg"], release = held(body(photo()))
    with ExitStack() as stack, draining_server(folder, origin, cache_memory_item_bytes=16 << 20) as server:
        length = len(server.ask(LARGE).body)
        waiting = stack.enter_context(connect(server, get("/img/w_20/shop/late.jpg") + get("/livez")))
        uploading = stack.enter_context(connect(server, UPLOAD_HEAD + UPLOAD[:1000]))
        reading = stack.enter_context(connect(server, get(LARGE)))
        beginning = stack.enter_context(connect(server, b"GET /img/w_20/cat.png HTTP/1.1\r\nHost: "))
        idle = stack.enter_context(connect(server, get("/livez")))
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: server.metric("imgserver_http_requests_in_progress") == 3, "two wait, beside this one")

        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: is_draining(server), "the server drains")
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        beginning.sendall(b"a\r\n\r\n")
        refused = read_all(beginning)
        release()
        uploading.sendall(UPLOAD[1000:])
        fetched, uploaded, read = (read_all(one) for one in (waiting, uploading, reading))
        code = server.process.wait(timeout=20)
        drained = [event["unfinished"] for event in server.events() if event["event"] == "server.drained"]

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in refused
    assert b'"reason":"drain"' in refused
    # The second request on the connection is left to the next server: the first response says that it is the last one.
    for finished in (fetched, uploaded, read):
        assert finished.startswith(b"HTTP/1.1 200 ")
        assert finished.count(b"HTTP/1.1") == 1
    assert all(b"\r\nConnection: close\r\n" in one[:2000] for one in (fetched, uploaded, refused))
    assert len(read.partition(b"\r\n\r\n")[2]) == length
    assert (code, drained) == (0, [0])


def test_requests_that_wait_for_their_original_beyond_the_drain_time_are_cut_off(origin):
    origin.answers["/never.jpg"], release = held(body(photo()))
    with draining_server(SAMPLES, origin, server_drain_seconds=0.3) as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.send, get("/img/w_20/shop/never.jpg"), patience=20)
        wait_until(lambda: server.metric("imgserver_origin_cache_waiting", source="shop") == 1, "the origin is asked")
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(timeout=5)
        drained = [event["unfinished"] for event in server.events() if event["event"] == "server.drained"]
        release()

    assert asked.result() == b""
    assert (code, drained) == (0, [1])
