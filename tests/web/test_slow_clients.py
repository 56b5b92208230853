"""Fault 22: clients that send or read a byte per second are disconnected, and delay no other client."""

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psutil
import pytest

from tests.running_server import SAMPLES, ServerProcess, serving, wait_until

HEADER, BODY, READER = "slow header", "slow body", "slow reader"
LARGE = "/img/f_png/large.png"
RECEIVE_BYTES = 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Has an image whose response is larger than the send buffer of the kernel."""
    from PIL import Image

    root = tmp_path_factory.mktemp("large")
    Image.effect_noise((2600, 2600), 120).save(root / "large.png")
    (root / "cat.png").write_bytes((SAMPLES / "cat.png").read_bytes())
    return root


@pytest.fixture(scope="module")
def strict(folder):
    settings = {
        "server_header_timeout_seconds": 2,
        "server_write_timeout_seconds": 2,
        "server_keepalive_timeout_seconds": 5,
    }
    # The body is in memory once; the test measures the copies for each client.
    with serving(folder, workers_count=1, cache_memory_item_bytes=16 << 20, **settings) as running:
        assert len(running.ask(LARGE).body) > 5_000_000
        yield running


def connect(server: ServerProcess) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    connection.connect(("127.0.0.1", server.port))
    return connection


def begin(server: ServerProcess, kind: str) -> socket.socket:
    connection = connect(server)
    first = {
        HEADER: b"GET /livez HTTP/1.1\r\nHost: a\r\nX: ",
        BODY: b"POST /api/admin/purge HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{",
        READER: f"GET {LARGE} HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    }[kind]
    connection.sendall(first)
    connection.setblocking(False)
    return connection


@dataclass
class Slow:
    """Clients that send or read one byte at a time, until the server disconnects them."""

    kinds: dict[socket.socket, str] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=lambda: {HEADER: 0, BODY: 0, READER: 0})

    def drip(self) -> None:
        for connection, kind in list(self.kinds.items()):
            if is_closed(connection, kind):
                connection.close()
                del self.kinds[connection]
                self.closed[kind] += 1


def is_closed(connection: socket.socket, kind: str) -> bool:
    try:
        if kind == READER:
            # After a reset the kernel still delivers the bytes that it has received; SO_ERROR shows the reset.
            return connection.recv(1) == b"" or connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        connection.send(b"x")
        # The server may send a response before it closes the connection.
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def slow(server: ServerProcess, numbers: dict[str, int]) -> Iterator[Slow]:
    with ExitStack() as held:
        clients = Slow()
        for kind, number in numbers.items():
            for _ in range(number):
                clients.kinds[held.enter_context(begin(server, kind))] = kind
        yield clients


def healthy(server: ServerProcess, number: int) -> list[float]:
    answers = [server.ask("/img/w_40/cat.png") for _ in range(number)]
    assert {answer.status for answer in answers} == {200}
    return sorted(answer.seconds for answer in answers)


@pytest.mark.alone
def test_five_hundred_slow_clients_are_disconnected_and_delay_no_other_client(strict):
    healthy(strict, 20)
    taken: list[float] = []
    process, most = psutil.Process(strict.process.pid), 0
    with slow(strict, {HEADER: 200, BODY: 150, READER: 150}) as clients:
        limit = time.monotonic() + 40
        while clients.kinds and time.monotonic() < limit:
            clients.drip()
            taken += healthy(strict, 10)
            most = max(most, process.memory_info().rss)
            time.sleep(0.2)

        assert clients.closed == {HEADER: 200, BODY: 150, READER: 150}
    taken.sort()
    # A hit takes about a millisecond. A quarter of the time-out would mean that hits wait for slow clients.
    assert taken[len(taken) * 99 // 100] < 0.5
    # 150 copies of the large body would take a gigabyte.
    assert most < 400 << 20
    wait_until(lambda: strict.metric("imgserver_http_connections") <= 1, "all connections are gone")
    assert strict.metric("imgserver_http_overdue_total", what="header") == 200
    assert strict.metric("imgserver_http_overdue_total", what="write") == 150


def test_a_client_that_stops_reading_is_disconnected_after_connection_close_too(strict):
    before = strict.metric("imgserver_http_overdue_total", what="write")
    with connect(strict) as connection:
        connection.sendall(f"GET {LARGE} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        wait_until(lambda: strict.metric("imgserver_http_overdue_total", what="write") > before, "it is cut off")
        connection.settimeout(5)
        with pytest.raises(ConnectionResetError):
            while connection.recv(1 << 20):
                pass


def test_a_slow_client_that_reads_enough_gets_everything(strict):
    """It reads a tenth of the image at a time, for twice the time-out."""
    received, begun = 0, time.monotonic()
    with connect(strict) as connection:
        connection.settimeout(10)
        connection.sendall(f"GET {LARGE} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        selector = selectors.DefaultSelector()
        selector.register(connection, selectors.EVENT_READ)
        while chunk := connection.recv(1 << 20):
            received += len(chunk)
            if time.monotonic() - begun < received / 1_500_000:
                time.sleep(0.02)

    assert received > 5_000_000
    assert time.monotonic() - begun > 3


@pytest.mark.alone
@pytest.mark.parametrize(("bytes_per_second", "is_cut_off"), [(60_000, False), (8_000, True)])
def test_an_even_reader_is_cut_off_only_below_the_documented_rate(strict, bytes_per_second, is_cut_off):
    """The rate is 64 KiB in two seconds. The kernel holds megabytes of the response, so at neither rate does the
    server's own buffer get shorter while the client reads."""
    before = strict.metric("imgserver_http_overdue_total", what="write")
    with connect(strict) as connection:
        connection.settimeout(10)
        connection.sendall(f"GET {LARGE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        received, begun = 0, time.monotonic()
        while time.monotonic() - begun < 5 and strict.metric("imgserver_http_overdue_total", what="write") == before:
            received += len(connection.recv(int(bytes_per_second * (time.monotonic() - begun)) - received or 1))
            time.sleep(0.02)

    assert received < 400_000
    assert (strict.metric("imgserver_http_overdue_total", what="write") > before) is is_cut_off
