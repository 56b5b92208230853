"""The shortcut for what memory has: the same answers in the same order, counted once; and where it is not taken."""

import asyncio
import re
import socket
import time
from contextlib import asynccontextmanager
from io import BytesIO

import pytest
from aiohttp import web

from imgserver.security.signing import Key, Keyring, SigningSettings
from imgserver.settings.schema import DefaultSource, HttpSettings, SecuritySettings, ServerSettings, Settings
from imgserver.web import app as composition
from imgserver.web.app import FAST_PATH, GUARD, MOUNTS, PICTURES, SERVICE, make_app
from imgserver.web.connections import GuardedSite
from tests.polling import eventually
from tests.running_server import SAMPLES, serving, wait_until
from tests.web.test_connections import MALFORMED

PICTURE = "/img/w_40/cat.png"
NEGOTIATED = "/img/w_40,f_auto/cat.png"
VARYING = re.compile(rb"\r\n(?:Date|X-Request-Id|Cache-Status): [^\r]*")


class Scene:
    """A server in this process whose shortcut can be closed; `taken` says of each message whether it was answered."""

    def __init__(self, app, port):
        self.app, self.port = app, port
        self.open = True
        self.taken = []

    def at_once(self, message, remote):
        answer = self.app[FAST_PATH](message, remote) if self.open else None
        self.taken.append(answer is not None)
        return answer

    async def ask(self, question, *, answers=1):
        async with self.connection() as (reader, writer):
            writer.write(question)
            return b"".join([await read(reader, bodiless=question.startswith(b"HEAD")) for _ in range(answers)])

    @asynccontextmanager
    async def connection(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()

    async def warm(self, *targets):
        for target in targets:
            for _ in range(2):
                await self.ask(get(target, "Accept: image/avif,image/webp"))
                await self.ask(get(target))
        self.taken.clear()


async def read(reader, *, bodiless=False):
    """One answer."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        return head + await reader.readexactly(int(length[1]) if length and not bodiless else 0)


def get(target, *fields, method="GET", version="1.1"):
    lines = [f"{method} {target} HTTP/{version}", "Host: a", *fields, "", ""]
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def scene_of(**changes):
    settings = Settings(source=DefaultSource(root=SAMPLES), server=ServerSettings(host="127.0.0.1"), **changes)
    app = make_app(settings, log_stream=BytesIO())
    runner = web.AppRunner(app, handle_signals=False, handler_cancellation=True)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    scene = Scene(app, listener.getsockname()[1])
    site = GuardedSite(runner, listener, app[GUARD], mounts=app[MOUNTS], pictures=app[PICTURES], at_once=scene.at_once)
    await site.start()
    try:
        yield scene
    finally:
        await runner.cleanup()


@pytest.fixture
async def scene(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # Nothing here waits for the moment after which an original is looked at again.
    monkeypatch.setattr(composition, "FINGERPRINT_TTL_SECONDS", 60)
    async with scene_of() as scene:
        await scene.warm(PICTURE, NEGOTIATED)
        yield scene


async def test_its_answers_are_those_of_the_long_way(scene):
    etag = re.search(rb"ETag: ([^\r]*)", await scene.ask(get(PICTURE)))[1].decode()
    questions = [
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
    scene.taken.clear()
    short = [await scene.ask(question) for question in questions]
    assert scene.taken == [True] * len(questions)
    scene.open = False
    long = [await scene.ask(question) for question in questions]

    assert [VARYING.sub(b"", answer) for answer in short] == [VARYING.sub(b"", answer) for answer in long]
    assert [answer.split()[1] for answer in short] == [b"200"] * 3 + [b"304", b"200", b"304", b"304"] + [b"200"] * 3
    assert b"\r\nX-Request-Id: mine\r\n" in short[1]
    for name in (b"Date: ", b"X-Request-Id: ", b"Cache-Status: imgserver; hit; ttl="):
        assert all(b"\r\n" + name in answer for answer in short)


@pytest.mark.parametrize(
    ("question", "status"),
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
async def test_whatever_is_not_plain_goes_the_long_way(scene, question, status):
    answer = await scene.ask(question)

    assert answer.split()[1] == status
    assert True not in scene.taken


async def test_what_fails_there_is_answered_by_the_long_way(scene, monkeypatch):
    def fails(order):
        raise RuntimeError("as nothing should")

    monkeypatch.setattr(type(scene.app[SERVICE]), "get_fresh", lambda self, order: fails(order))
    answer = await scene.ask(get(PICTURE))

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert scene.taken == [False]


async def test_requests_in_one_packet_are_answered_in_order(scene):
    etag = re.search(rb"ETag: ([^\r]*)", await scene.ask(get(PICTURE)))[1].decode()
    answers = await scene.ask(get(PICTURE) + get("/livez") + get(PICTURE, f"If-None-Match: {etag}"), answers=3)

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"304"]
    assert answers.index(b"image/") < answers.index(b"text/plain") < answers.index(b"HTTP/1.1 304")


async def test_a_hit_does_not_overtake_the_answer_before_it(scene):
    async with scene.connection() as (reader, writer):
        writer.write(get("/img/w_42/cat.png"))
        await eventually(lambda: len(scene.taken) == 1)
        writer.write(get(PICTURE, "X-Request-Id: second"))
        answers = await read(reader) + await read(reader)

    assert re.findall(rb"X-Request-Id: ([^\r]*)", answers)[1] == b"second"
    assert b"fwd=uri-miss" in answers.partition(b"\r\n\r\n")[0]


async def test_a_request_in_pieces_goes_the_long_way_and_the_next_one_does_not(scene):
    async with scene.connection() as (reader, writer):
        for piece in (b"GET " + PICTURE.encode(), b" HTTP/1.1\r\nHo", b"st: a\r\n", b"\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)  # so that they come one by one
        first = await read(reader)
        writer.write(get(PICTURE))
        second = await read(reader)

    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert scene.taken == [True]


async def test_a_client_that_does_not_take_its_answers_is_waited_for(scene):
    large = "/img/w_900,q_90/dogs.jpg"
    await scene.warm(large)
    length = len((await scene.ask(get(large))).partition(b"\r\n\r\n")[2])
    scene.taken.clear()
    asked = 100
    async with scene.connection() as (reader, writer):
        for _ in range(asked):
            writer.write(get(large))
            await writer.drain()
            await asyncio.sleep(0.001)  # so that they come one by one
        received = [await read(reader) for _ in range(asked)]

    assert 0 < len(scene.taken) < asked / 2
    assert {len(answer.partition(b"\r\n\r\n")[2]) for answer in received} == {length}


async def test_what_was_purged_is_not_taken(scene):
    await scene.app[SERVICE].cache.purge(["a"])
    assert b"fwd=uri-miss" in await scene.ask(get(PICTURE))
    assert scene.taken == [False]


async def test_a_link_with_an_end_is_not_taken(tmp_path, monkeypatch):
    """Whoever has parsed it before still has to look at the clock."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key = Key(bytes(range(32)))
    rest = f"exp_{int(time.time()) + 60}/w_40/cat.png"
    target = f"/img/s--{Keyring((key,)).sign(rest, source='photos')}--/{rest}"
    async with scene_of(signing=SigningSettings(keys=(key.spell(),))) as scene:
        await scene.warm(target)
        answer = await scene.ask(get(target))

        assert b"\r\nCache-Status: imgserver; hit" in answer
        assert scene.taken == [False]


PROXY = "proxies: {networks: [127.0.0.0/8]}\n"
FROM_HER, FROM_HIM = "X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 192.0.2.7"


@pytest.mark.parametrize(
    ("policy", "field", "taken", "status"),
    [
        (PROXY, FROM_HER, True, 200),
        (PROXY + "clients: {deny: [192.0.2.0/24]}", FROM_HER, True, 200),
        (PROXY + "clients: {deny: [192.0.2.0/24]}", FROM_HIM, False, 403),
        (PROXY + "clients: {allow: [198.51.100.0/24, 127.0.0.1]}", FROM_HIM, False, 403),
        ("clients: {deny: [192.0.2.0/24]}", FROM_HIM, True, 200),
        ("rates: {pictures: {per_second: 100, burst: 100}}", FROM_HER, False, 200),
    ],
)
async def test_a_policy_holds_there_as_well(tmp_path, monkeypatch, policy, field, taken, status):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "security.yaml").write_text(policy)
    async with scene_of(security=SecuritySettings(policy=tmp_path / "security.yaml")) as scene:
        await scene.warm(PICTURE)
        answer = await scene.ask(get(PICTURE, field))

        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert scene.taken == [taken]


def test_the_log_tells_whose_request_it_was(tmp_path):
    (tmp_path / "security.yaml").write_text(PROXY)
    with serving(workers_count=1, disk_limit_bytes=0, security_policy=tmp_path / "security.yaml") as server:
        for _ in range(3):
            server.ask(PICTURE, headers={"X-Forwarded-For": "198.51.100.7"})

        def remotes():
            return [event["remote"] for event in server.events() if event.get("target") == PICTURE]

        wait_until(lambda: len(remotes()) == 3, "the lines")
        assert remotes() == ["198.51.100.7"] * 3


async def test_stages_and_hints_are_not_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    async with scene_of(http=HttpSettings(server_timing=True, client_hints=True)) as scene:
        await scene.warm(PICTURE)
        answer = await scene.ask(get(PICTURE))

        assert b"\r\nServer-Timing: cache;desc=memory" in answer
        assert True not in scene.taken


# Of a whole server.


@pytest.fixture(scope="module")
def strict():
    with serving(
        workers_count=1, disk_limit_bytes=0, server_header_timeout_seconds=0.5, server_keepalive_timeout_seconds=2
    ) as running:
        for _ in range(2):
            running.ask(PICTURE)
        yield running


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_for_what_memory_has_are_refused(strict, raw):
    answer = strict.send(raw.replace(b"%s", PICTURE.encode()) + get("/livez"), patience=2)

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert answer.count(b"HTTP/1.") == 1


def test_each_is_counted_and_logged_once(strict):
    def counts():
        return (
            strict.metric("imgserver_lookups_total", outcome="hit"),
            strict.metric("imgserver_lookups_total", outcome="not_modified"),
            strict.metric("imgserver_cache_requests_total", tier="memory", result="hit"),
            strict.metric("imgserver_http_requests_total", route="image", method="GET", status="200"),
        )

    etag = strict.ask(PICTURE).headers["ETag"]
    before = counts()
    for number in range(20):
        strict.ask(PICTURE, headers={"X-Request-Id": f"hit-{number}"})
    strict.ask(PICTURE, headers={"If-None-Match": etag, "X-Request-Id": "unmodified"})

    assert [now - then for now, then in zip(counts(), before, strict=True)] == [20, 1, 21, 20]

    def lines():
        return [one for one in strict.events() if re.fullmatch(r"hit-\d+|unmodified", one.get("request_id", ""))]

    wait_until(lambda: len(lines()) >= 21, "the lines")
    assert [line["request_id"] for line in lines()] == [*(f"hit-{number}" for number in range(20)), "unmodified"]
    hit, unmodified = lines()[0], lines()[-1]
    assert (hit["status"], hit["outcome"], hit["target"], hit["remote"]) == (200, "hit", PICTURE, "127.0.0.1")
    assert hit["bytes"] > 100
    assert (unmodified["status"], unmodified["outcome"], unmodified["bytes"]) == (304, "not_modified", 0)


def test_a_connection_rests_as_long_as_after_any_other_answer(strict):
    """Longer than a header may take, and no longer than a connection may rest."""
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        for _ in range(2):
            connection.sendall(get(PICTURE))
            assert b"200 OK" in connection.recv(65536)
            connection.settimeout(1.0)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(5)
        begun = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - begun < 2.5


def test_a_connection_that_only_had_hits_ends_when_it_has_rested(strict):
    strict.ask(PICTURE)
    with socket.create_connection(("127.0.0.1", strict.port), timeout=8) as connection:
        connection.sendall(get(PICTURE))
        assert b"200 OK" in connection.recv(65536)
        begun = time.monotonic()
        assert connection.recv(1) == b""
        assert 1.5 < time.monotonic() - begun < 4


def test_a_header_that_never_ends_behind_a_hit_is_cut_off(strict):
    strict.ask(PICTURE)
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        connection.sendall(get(PICTURE))
        assert b"200 OK" in connection.recv(65536)
        connection.sendall(b"GET /img/w_40")
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_server_ends_at_once_beside_connections_that_only_had_hits():
    with serving(workers_count=1, disk_limit_bytes=0) as server:
        for _ in range(2):
            server.ask(PICTURE)
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(get(PICTURE))
            assert b"200 OK" in connection.recv(65536)
            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < 5
            connection.setblocking(True)
            assert connection.recv(65536) == b""
