"""The fast path in this process: which requests it answers, and that its bytes are those of the framework's way."""

import asyncio
import inspect
import random
import re
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web_protocol

from imgserver.security.signing import Keyring, SigningKey, SigningSettings
from imgserver.settings.schema import HttpSettings, SecuritySettings, ServerSettings
from imgserver.web import fast_path
from imgserver.web.app import LOGGER, RELOADER, SERVICE
from imgserver.web.bootstrap import service as service_bootstrap
from imgserver.web.connections import Connection
from imgserver.web.fast_path import connection_factory, missing_attributes
from imgserver.web.images.responses import ImageResponse
from imgserver.web.middleware import RequestIds
from imgserver.web.open_connections import OpenConnections
from tests.polling import eventually
from tests.web.fast_path_server import (
    NEGOTIATED,
    PICTURE,
    FastPathServer,
    fast_path_server,
    get,
    read_response,
)
from tests.web.test_connections import MALFORMED

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = SigningKey(bytes(range(32)))
CHANGING = re.compile(rb"\r\n(?:Date|X-Request-Id|Cache-Status): [^\r]*")
TIME = re.compile(rb"\r\nDate: [^\r]*|; ttl=-?\d+")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory) -> AsyncIterator[FastPathServer]:
    policy = tmp_path_factory.mktemp("policy") / "security.yaml"
    policy.write_text("{}\n")
    with pytest.MonkeyPatch.context() as patch:
        # Originals are not checked again during the tests, so that every warm rendition is a hit.
        patch.setattr(service_bootstrap, "FINGERPRINT_TTL_SECONDS", 3600)
        sections = {"security": SecuritySettings(policy=policy), "signing": SigningSettings(keys=(KEY.serialize(),))}
        async with fast_path_server(**sections) as running:
            running.policy = policy
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def server(shared) -> FastPathServer:
    await shared.warm(PICTURE, NEGOTIATED)
    return shared


async def etag_of(server, target=PICTURE):
    etag = re.search(rb"ETag: ([^\r]*)", await server.fetch(get(target)))[1].decode()
    server.answered.clear()
    return etag


async def test_plain_requests_for_what_memory_has_are_answered(server):
    etag = await etag_of(server)
    requests = [
        get(PICTURE),
        get(PICTURE, "X-Request-Id: mine"),
        get(PICTURE, "Accept: text/html", "Cookie: a=b"),
        get(PICTURE, f"If-None-Match: {etag}"),
        get(PICTURE, 'If-None-Match: "another"'),
        get(PICTURE, f'If-None-Match: "another", W/{etag}'),
        get(PICTURE, "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"),
        get(PICTURE, "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
        get(NEGOTIATED, "Accept: image/avif,image/webp"),
        get(NEGOTIATED),
    ]
    responses = [await server.fetch(request) for request in requests]

    assert server.answered == [True] * len(requests)
    assert [response.split()[1] for response in responses] == [b"200"] * 3 + [b"304", b"200", b"304", b"304"] + [
        b"200"
    ] * 3
    assert b"\r\nX-Request-Id: mine\r\n" in responses[1]
    for name in (b"Date: ", b"X-Request-Id: ", b"Cache-Status: imgserver; hit; ttl="):
        assert all(b"\r\n" + name in response for response in responses)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get(PICTURE, method="HEAD"), b"200"),
        (get(PICTURE, "Range: bytes=0-9"), b"206"),
        (get(PICTURE, version="1.0"), b"200"),
        (get(PICTURE, "Connection: close"), b"200"),
        (get(PICTURE, "Upgrade: websocket", "Connection: Upgrade"), b"200"),
        (get(PICTURE, "Content-Length: 4") + b"body", b"200"),
        (get(PICTURE, "Transfer-Encoding: chunked") + b"0\r\n\r\n", b"200"),
        (get("/img/w_41/cat.png"), b"200"),
        (get("/img/w_0/cat.png"), b"400"),
        (get("/livez"), b"200"),
        (get(f"http://other.example{PICTURE}"), b"200"),
    ],
)
async def test_other_requests_take_the_frameworks_way(server, request_bytes, status):
    response = await server.fetch(request_bytes)

    assert response.split()[1] == status
    assert True not in server.answered


async def test_an_error_on_the_fast_path_is_answered_on_the_frameworks_way(server, monkeypatch):
    def fail(service, order):
        raise RuntimeError("a fault of the service")

    monkeypatch.setattr(type(server.app[SERVICE]), "get_fresh", fail)
    response = await server.fetch(get(PICTURE))

    assert response.startswith(b"HTTP/1.1 500 ")
    assert server.answered == [False]


async def test_pipelined_requests_are_answered_in_order(server):
    etag = await etag_of(server)
    requests = get(PICTURE) + get("/livez") + get(PICTURE, f"If-None-Match: {etag}")
    responses = await server.fetch(requests, responses=3)

    assert re.findall(rb"HTTP/1.1 (\d+)", responses) == [b"200", b"200", b"304"]
    assert responses.index(b"image/") < responses.index(b"text/plain") < responses.index(b"HTTP/1.1 304")


async def test_a_hit_does_not_overtake_the_miss_before_it(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.fast_port)
    writer.write(get("/img/w_42/cat.png"))
    await eventually(lambda: len(server.answered) == 1)
    writer.write(get(PICTURE, "X-Request-Id: second"))
    responses = await read_response(reader) + await read_response(reader)
    writer.close()

    assert re.findall(rb"X-Request-Id: ([^\r]*)", responses)[1] == b"second"
    assert b"fwd=uri-miss" in responses.partition(b"\r\n\r\n")[0]


async def test_a_purged_rendition_is_not_answered(server):
    await server.app[SERVICE].cache.purge(["a"])

    assert b"fwd=uri-miss" in await server.fetch(get(PICTURE))
    assert server.answered == [False]


async def test_a_link_that_expires_takes_the_frameworks_way(server):
    rest = f"exp_{int(time.time()) + 600}/w_40/cat.png"
    target = f"/img/s--{Keyring((KEY,)).sign(rest, source='photos')}--/{rest}"
    await server.warm(target)
    response = await server.fetch(get(target))

    assert b"\r\nCache-Status: imgserver; hit" in response
    assert server.answered == [False]


PROXY = "proxies: {networks: [127.0.0.0/8]}\n"
ONE, OTHER = "X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 192.0.2.7"


@pytest.mark.parametrize(
    ("policy", "header", "answered", "status"),
    [
        (PROXY, ONE, True, 200),
        (PROXY + "clients: {deny: [192.0.2.0/24]}", ONE, True, 200),
        (PROXY + "clients: {deny: [192.0.2.0/24]}", OTHER, False, 403),
        (PROXY + "clients: {allow: [198.51.100.0/24, 127.0.0.1]}", OTHER, False, 403),
        ("clients: {deny: [192.0.2.0/24]}", OTHER, True, 200),
        ("rates: {pictures: {per_second: 100, burst: 100}}", ONE, False, 200),
    ],
)
async def test_a_policy_holds_on_the_fast_path(server, policy, header, answered, status):
    server.policy.write_text(policy)
    try:
        assert await server.app[RELOADER].reload()
        await server.warm(PICTURE)
        response = await server.fetch(get(PICTURE, header))
    finally:
        server.policy.write_text("{}\n")
        assert await server.app[RELOADER].reload()

    assert response.startswith(f"HTTP/1.1 {status} ".encode())
    assert server.answered == [answered]


async def test_server_timing_and_client_hints_take_the_frameworks_way():
    async with fast_path_server(http=HttpSettings(server_timing=True, client_hints=True)) as timed:
        await timed.warm(PICTURE)
        response = await timed.fetch(get(PICTURE))

        assert b"\r\nServer-Timing: cache;desc=memory" in response
        assert True not in timed.answered


# One connection without a socket.


class FakeTransport(asyncio.Transport):
    """Collects what is written. As a real transport does, it reports its closing later."""

    def __init__(self, protocol) -> None:
        super().__init__()
        self.written = b""
        self._protocol, self._closing = protocol, False

    def write(self, data) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""


def refuse(request, error):
    raise AssertionError(f"{request} is refused: {error}")


async def connect(server, **settings):
    """A connection that waits for its first request, and its transport."""
    connections = OpenConnections(ServerSettings(**settings))
    factory = connection_factory(server.answer, server.app[LOGGER])
    connection = factory(server.server, connections, asyncio.get_running_loop(), refuse)
    transport = FakeTransport(connection)
    connection.connection_made(transport)
    await eventually(lambda: connection.is_idle())
    return connection, transport


async def test_a_request_in_pieces_takes_the_frameworks_way_and_the_next_one_does_not(server):
    connection, transport = await connect(server)
    for piece in (b"GET " + PICTURE.encode(), b" HTTP/1.1\r\nHo", b"st: a\r\n", b"\r\n"):
        connection.data_received(piece)
    await eventually(lambda: transport.written and connection.is_idle())
    first, transport.written = transport.written, b""
    assert server.answered == []
    connection.data_received(get(PICTURE))
    transport.close()

    assert server.answered == [True]
    assert CHANGING.sub(b"", first) == CHANGING.sub(b"", transport.written)


async def test_a_client_that_does_not_read_its_responses_is_waited_for(server):
    connection, transport = await connect(server)
    connection.pause_writing()
    connection.data_received(get(PICTURE))
    assert (server.answered, transport.written) == ([], b"")
    connection.resume_writing()
    await eventually(lambda: transport.written and connection.is_idle())
    connection.data_received(get(PICTURE))
    transport.close()

    assert server.answered == [True]
    assert transport.written.count(b"HTTP/1.1 200 OK\r\n") == 2


async def test_a_header_that_never_ends_after_a_hit_is_answered_with_408(server):
    connection, transport = await connect(server, header_timeout_seconds=0.05, keepalive_timeout_seconds=3600)
    connection.data_received(get(PICTURE))
    hit = transport.written
    connection.data_received(b"GET /img/w_40")
    await eventually(lambda: transport.is_closing(), seconds=30)

    assert hit.startswith(b"HTTP/1.1 200 ")
    assert transport.written.removeprefix(hit).startswith(b"HTTP/1.1 408 ")
    assert connection.connections.overdue["header"] == 1


async def test_a_complete_header_stops_the_header_timer(server):
    connection, transport = await connect(server, header_timeout_seconds=0.02, keepalive_timeout_seconds=0.3)
    started = time.monotonic()
    connection.data_received(get(PICTURE))
    connection.data_received(b"GET /livez HTTP/1.1\r\n")
    connection.data_received(b"Host: a\r\n\r\n")
    await eventually(lambda: transport.is_closing(), seconds=30)

    assert time.monotonic() - started >= 0.3
    assert transport.written.count(b"HTTP/1.1 200 ") == 2
    assert b" 408 " not in transport.written


async def test_without_keep_alive_no_connection_has_the_fast_path(server):
    connections = OpenConnections(ServerSettings(keepalive_timeout_seconds=0))
    factory = connection_factory(server.answer, server.app[LOGGER])

    assert type(factory(server.server, connections, asyncio.get_running_loop(), refuse)) is Connection


# What the fast path needs of aiohttp.


async def test_aiohttp_has_every_private_attribute_that_the_fast_path_uses():
    missing = missing_attributes()

    assert not missing, f"this aiohttp lacks {', '.join(missing)}: adapt web/fast_path.py, or keep the older version"


@pytest.mark.parametrize("kind", [Connection, ImageResponse])
async def test_no_other_class_touches_private_attributes_of_aiohttp(kind):
    used = set(re.findall(r"\b(?:self|super\(\))\.(_[a-z]\w*)", inspect.getsource(kind)))
    theirs = {name for base in kind.__mro__[1:] for name in (*vars(base), *getattr(base, "__slots__", ()))}

    assert used & theirs == set()


async def test_without_a_private_attribute_all_requests_take_the_frameworks_way(monkeypatch):
    """The name stands for one that a later aiohttp has renamed."""
    attributes = {**fast_path.PRIVATE_ATTRIBUTES, web_protocol.RequestHandler: {"_waiter_before": "a renamed one"}}
    monkeypatch.setattr(fast_path, "PRIVATE_ATTRIBUTES", attributes)
    async with fast_path_server() as slow:
        await slow.warm(PICTURE)
        responses = await slow.fetch(2 * get(PICTURE), responses=2)
        await eventually(lambda: b"request" in slow.log.getvalue())

    assert responses.count(b"Cache-Status: imgserver; hit") == 2
    assert slow.answered == []
    lines = [line for line in slow.log.getvalue().splitlines() if b"fast_path.disabled" in line]
    assert len(lines) == 1
    assert b'"missing":["RequestHandler._waiter_before"]' in lines[0]


# Random requests with the fast path and without it.

SEQUENCES = 2000
TARGETS = (
    *[PICTURE] * 6,
    *[NEGOTIATED] * 3,
    "/img/w_0/cat.png",
    "/img/w_40/nosuch.png",
    "/livez",
    "/nosuch",
    "/img/%zz",
)
METHODS = (*["GET"] * 12, "HEAD", "HEAD", "OPTIONS", "POST", "PUT", "BREW", "get")
ODD_TARGETS = ("*", f"http://other.example{PICTURE}", "//img/w_40/cat.png", f"{PICTURE}?v=1", f"{PICTURE}#part")
HEADERS = (
    "Accept: image/avif,image/webp",
    "Accept: image/webp;q=0.5",
    "Accept: */*",
    "If-None-Match: {etag}",
    'If-None-Match: "another"',
    'If-None-Match: "another", W/{etag}',
    "If-None-Match: *",
    "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",
    "If-Modified-Since: no date",
    "Range: bytes=0-9",
    "Range: bytes=-5",
    "Range: bytes=999999-",
    "Range: bytes=0-1,3-4",
    "If-Range: {etag}",
    'If-Range: "another"',
    "Connection: keep-alive",
    "Connection: close",
    "Upgrade: h2c\r\nConnection: Upgrade",
    "Expect: 100-continue",
    "X-Request-Id: mine-1",
    "X-Request-Id: not safe!",
    "Cookie: a=b; c=d",
    "Save-Data: on",
    "Origin: https://site.example",
    "Priority: u=1",
    "X-Forwarded-For: 192.0.2.7",
    "X-Empty:",
)


def random_header(header: str, etag: str, draw: random.Random) -> str:
    """The header with its name in random case."""
    name, _, value = header.format(etag=etag).partition(":")
    return "".join(draw.choice((char.lower(), char.upper())) for char in name) + ":" + value


def random_request(draw: random.Random, etag: str) -> bytes:
    if draw.random() < 0.03:
        return draw.choice(list(MALFORMED.values())).replace(b"%s", PICTURE.encode())
    method, version = draw.choice(METHODS), "1.0" if draw.random() < 0.1 else "1.1"
    target = draw.choice(ODD_TARGETS) if draw.random() < 0.05 else draw.choice(TARGETS)
    chosen = draw.sample(HEADERS, draw.choice((0, 0, 0, 1, 1, 1, 2, 4)))
    headers = [random_header(header, etag, draw) for header in (*chosen, "Host: a")]
    draw.shuffle(headers)
    if method in ("POST", "PUT") or draw.random() < 0.03:
        return get(target, *headers, "Content-Length: 4", method=method, version=version, host=()) + b"body"
    return get(target, *headers, method=method, version=version, host=())


def random_packets(draw: random.Random, data: bytes) -> list[bytes]:
    """The data in one to three packets."""
    cuts = sorted(draw.randrange(len(data)) for _ in range(draw.choice((0, 0, 0, 1, 2))))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]


async def exchange(port: int, packets: list[bytes], *, waits: bool = False) -> bytes:
    """Everything that the server sends until it closes the connection.

    With `waits`, each packet is one request, and the client waits for its response before it sends the next one.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(20):
            for packet in packets:
                writer.write(packet)
                await writer.drain()
                if waits:
                    received += await read_response(reader, packet)
            while chunk := await reader.read(1 << 16):
                received += chunk
    except asyncio.IncompleteReadError as error:
        received += error.partial
    except ConnectionError:
        pass  # The server has closed the connection before it had read everything.
    finally:
        writer.close()
    return received


async def test_random_requests_get_equal_bytes_with_and_without_the_fast_path(server, monkeypatch):
    """Each sequence ends with a request that closes the connection; a malformed one closes it earlier."""
    monkeypatch.setattr(RequestIds, "of", lambda ids, headers: headers.get("X-Request-Id", "generated").split()[0])
    etag, draw, differences = await etag_of(server), random.Random(8), []
    for header in HEADERS[:3]:
        for target in (*TARGETS, *ODD_TARGETS):
            await exchange(server.fast_port, [get(target, header, "Connection: close")])
    server.answered.clear()
    for number in range(SEQUENCES):
        requests = [random_request(draw, etag) for _ in range(draw.choice((1, 1, 2, 3)))]
        requests.append(get(PICTURE, "Connection: close"))
        waits = number % 4 > 0
        packets = requests if waits else random_packets(draw, b"".join(requests))
        fast = await exchange(server.fast_port, packets, waits=waits)
        framework = await exchange(server.framework_port, packets, waits=waits)
        if TIME.sub(b"", fast) != TIME.sub(b"", framework):
            differences.append((packets, fast, framework))

    assert differences[:3] == []
    assert 400 < server.answered.count(True) < len(server.answered) - 400
