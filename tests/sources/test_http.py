"""The HTTP origin with correct and faulty servers."""

import asyncio
import errno
import gzip
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields

import pytest
import trustme
from stamina.instrumentation import get_on_retry_hooks

from imgserver.errors import (
    DeadlineExceeded,
    ImageOverLimit,
    ImgserverError,
    NotFound,
    SourceDenied,
    SourceFailed,
    Unavailable,
)
from imgserver.sources import http, http_session
from imgserver.sources.config import FetchSettings
from imgserver.sources.http import HttpOrigin
from imgserver.sources.origin import OriginResponse, Validators, refuse_larger
from imgserver.sources.url_mapping import BaseUrlMapping, HttpOriginSettings
from tests.polling import eventually
from tests.sources.origin_server import (
    BODY,
    OriginServer,
    ScriptedResolver,
    body,
    cut,
    endless,
    head,
    in_turn,
    origin_server,
    redirect,
    reset,
    stalled,
    status,
)

LOOPBACK = ("127.0.0.0/8", "::1/128")
DATE = "Tue, 24 Nov 2026 06:00:00 GMT"
PATH = "a.jpg"
FETCH_NAMES = {field.name for field in fields(FetchSettings)}
TARGET = "/assets/a.jpg"


class BodySink:
    """Collects at most `max_bytes`, like the sink of the origin cache."""

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.data = bytearray()
        self.max_bytes = max_bytes

    async def __call__(self, chunk: bytes) -> None:
        refuse_larger(len(self.data) + len(chunk), self.max_bytes)
        self.data += chunk


def no_audit(event: str, *, reason: str, **facts: object) -> None:
    raise AssertionError(event, reason, facts)


@asynccontextmanager
async def origin_of(
    server: OriginServer, *, scheme: str = "http", audit=no_audit, tls=None, resolver=None, host="127.0.0.1", **changes
) -> AsyncIterator[HttpOrigin]:
    plain = {"base": f"{scheme}://{host}:{server.port}/assets/", "networks": LOOPBACK}
    fetch = FetchSettings(**{name: changes.pop(name) for name in FETCH_NAMES & changes.keys()})
    settings = HttpOriginSettings(**plain | changes, fetch=fetch)
    origin = HttpOrigin("shop", settings, BaseUrlMapping(settings), audit=audit, tls=tls, resolver=resolver)
    try:
        yield origin
    finally:
        await origin.close()


@pytest.fixture
async def server() -> AsyncIterator[OriginServer]:
    async with origin_server() as running:
        yield running


@pytest.fixture
async def origin(server: OriginServer) -> AsyncIterator[HttpOrigin]:
    async with origin_of(server) as made:
        yield made


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WAIT_SECONDS", 0.001)
    monkeypatch.setattr(http, "JITTER_SECONDS", 0.001)


async def fetched(origin: HttpOrigin, known: Validators | None = None) -> tuple[OriginResponse | None, bytes]:
    sink = BodySink()
    said = await origin.fetch(PATH, sink, known=known)
    return said, bytes(sink.data)


async def failure(origin: HttpOrigin, sink: BodySink | None = None) -> ImgserverError:
    with pytest.raises(ImgserverError) as caught:
        await origin.fetch(PATH, sink or BodySink())
    return caught.value


# Correct responses


async def test_a_fetch_returns_the_body_and_its_metadata(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = body(ETag='"one"', Last_Modified=DATE, Cache_Control="max-age=60", Age=10)
    told = OriginResponse(Validators('"one"', 1_795_500_000, len(BODY)), 50)

    assert await fetched(origin) == (told, BODY)
    assert await origin.stat(PATH) == told
    assert [asked.method for asked in server.requests] == ["GET", "HEAD"]


async def test_a_response_without_validators_is_accepted(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = cut(BODY)

    assert await fetched(origin) == (OriginResponse(Validators()), BODY)


async def test_a_chunked_body_is_complete(server: OriginServer, origin: HttpOrigin) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:5], BODY[5:])) + b"0\r\n\r\n"
    server.answers[TARGET] = cut(chunks, Transfer_Encoding="chunked")

    assert (await fetched(origin))[1] == BODY


async def test_an_empty_body_is_accepted(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = body(b"")

    assert await fetched(origin) == (OriginResponse(Validators(size_bytes=0)), b"")


async def test_the_body_is_streamed_into_the_sink(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = stalled(head(200, Content_Length=100) + b"begun")
    sink = BodySink()

    fetching = asyncio.create_task(origin.fetch(PATH, sink))
    await eventually(lambda: sink.data == b"begun")
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching


async def test_a_request_accepts_identity_only_and_identifies_no_client(server: OriginServer) -> None:
    server.answers[TARGET] = body(Set_Cookie="a=b; Path=/")
    secret = ("Authorization: Bearer secret",)
    async with origin_of(server, host="cdn.example.com", resolver=names(), headers=secret) as origin:
        await fetched(origin)
        await fetched(origin)

    fields = server.requests[1].fields
    assert fields["accept-encoding"] == "identity"
    assert fields["authorization"] == "Bearer secret"
    assert fields["host"] == f"cdn.example.com:{server.port}"
    assert set(fields) == {"host", "accept", "accept-encoding", "user-agent", "cdn-loop", "authorization"}


async def test_connections_are_reused(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = body()
    for _ in range(3):
        await fetched(origin)

    assert server.connects == 1


async def test_a_name_is_percent_encoded_once(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers["/assets/a%20b%3F%25/%C3%A4.jpg"] = body(b"found")
    sink = BodySink()

    await origin.fetch("a b?%/ä.jpg", sink)
    assert sink.data == b"found"


# Conditional requests


async def test_an_unchanged_file_is_not_sent_again(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = status(304)

    assert await fetched(origin, Validators('"one"', 1_795_500_000, 5)) == (None, b"")
    assert server.requests[0].fields["if-none-match"] == '"one"'
    assert server.requests[0].fields["if-modified-since"] == DATE


async def test_a_changed_file_is_sent(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = body(b"new", ETag='"two"')

    assert await fetched(origin, Validators('"one"')) == (OriginResponse(Validators('"two"', None, 3)), b"new")


@pytest.mark.parametrize("known", [None, Validators(size_bytes=5)])
async def test_not_modified_without_a_condition_is_a_failure(
    server: OriginServer, origin: HttpOrigin, known: Validators | None
) -> None:
    server.answers[TARGET] = status(304)

    with pytest.raises(SourceFailed):
        await fetched(origin, known)


# Statuses


@pytest.mark.parametrize(
    ("code", "kind", "attempts"),
    [(404, NotFound, 1), (410, NotFound, 1), (403, NotFound, 1), (451, NotFound, 1)]
    + [(code, SourceFailed, 1) for code in (201, 204, 206, 300, 305, 400, 401, 405, 407, 416, 418, 429, 501, 505, 599)]
    + [(code, SourceFailed, 3) for code in (500, 502, 503, 504)],
)
async def test_a_status_without_the_original_raises_its_error(
    server: OriginServer, origin: HttpOrigin, code: int, kind: type[ImgserverError], attempts: int
) -> None:
    server.answers[TARGET] = body(b"some text", code)

    sink = BodySink()
    assert type(await failure(origin, sink)) is kind
    assert sink.data == b""
    assert len(server.requests) == attempts
    server.requests.clear()
    with pytest.raises(kind):
        await origin.stat(PATH)
    asked_again = (400 <= code < 500 and code not in (404, 410, 429)) or code == 501
    assert server.requests[-1].method == ("GET" if asked_again else "HEAD")


async def test_all_absent_originals_have_the_same_error(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = status(403)

    error = await failure(origin)
    assert (error.detail, error.facts) == (NotFound().detail, {})


# Retries


@pytest.mark.parametrize("fault", [status(503), reset(), reset(b"HTTP/1.1 200"), cut(b"", Content_Length=5)])
async def test_a_transient_failure_is_retried(server: OriginServer, origin: HttpOrigin, fault) -> None:
    server.answers[TARGET] = in_turn(fault, fault, body())

    assert (await fetched(origin))[1] == BODY
    assert len(server.requests) == 3


async def test_a_stat_request_is_retried(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = in_turn(status(502), body())

    assert await origin.stat(PATH) == OriginResponse(Validators(size_bytes=len(BODY)))


async def test_attempts_are_bounded(server: OriginServer) -> None:
    server.answers[TARGET] = status(503)
    async with origin_of(server, max_attempts=1) as origin:
        assert type(await failure(origin)) is SourceFailed

    assert len(server.requests) == 1


def test_retries_are_neither_logged_nor_counted_by_stamina() -> None:
    """The default hooks of stamina would log URLs."""
    assert get_on_retry_hooks() == ()


async def test_no_retry_follows_the_first_byte_of_the_body(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = reset(head(200, Content_Length=100) + b"begun")
    sink = BodySink()

    assert type(await failure(origin, sink)) is SourceFailed
    assert (sink.data, len(server.requests)) == (b"begun", 1)


async def test_a_refused_connection_is_a_failure(server: OriginServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with origin_of(server, base=f"http://127.0.0.1:{port}/") as origin:
        assert type(await failure(origin)) is SourceFailed


async def test_attempts_end_with_the_total_time_out(server: OriginServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WAIT_SECONDS", 1.0)
    server.answers[TARGET] = status(503)
    begun = time.monotonic()
    async with origin_of(server, max_attempts=5, total_timeout_seconds=0.3) as origin:
        assert type(await failure(origin)) in (SourceFailed, DeadlineExceeded)

    assert time.monotonic() - begun < 0.9


# Faulty bodies


@pytest.mark.parametrize(
    "answer",
    [
        cut(b"half", Content_Length=8),
        cut(b"4\r\nhalf\r\n", Transfer_Encoding="chunked"),
        cut(b"9\r\nhalf", Transfer_Encoding="chunked"),
        cut(b"zz\r\nhalf\r\n0\r\n\r\n", Transfer_Encoding="chunked"),
    ],
)
async def test_a_body_that_ends_early_is_a_failure(server: OriginServer, origin: HttpOrigin, answer) -> None:
    server.answers[TARGET] = answer

    assert type(await failure(origin)) is SourceFailed


async def test_bytes_after_the_content_length_are_ignored(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = cut(b"wholeand more", Content_Length=5)
    sink = BodySink()

    # The parser sees these bytes in the same packet and closes the connection.
    assert type(await failure(origin, sink)) is SourceFailed
    assert sink.data in (b"", b"whole")


@pytest.mark.parametrize("encoding", ["br", "ZSTD", "identity, br", "gzip, zstd", "x-compress"])
async def test_a_coding_that_is_not_decoded_is_named(server: OriginServer, origin: HttpOrigin, encoding: str) -> None:
    server.answers[TARGET] = body(Content_Encoding=encoding)
    sink = BodySink()
    error = await failure(origin, sink)

    assert type(error) is SourceFailed
    assert f"with {encoding.lower().rpartition(' ')[2]}" in error.detail
    assert (sink.data, len(server.requests)) == (b"", 1)


NO_CODINGS = [
    "identity",
    "utf-8",
    "UTF-8",
    "aws-chunked",
    "undefined",
    "none",
    "binary",
    "",
    "8bit, iso-8859-1",
    "jpeg",
]


@pytest.mark.parametrize("encoding", NO_CODINGS)
async def test_what_is_no_content_coding_is_ignored(server: OriginServer, origin: HttpOrigin, encoding: str) -> None:
    server.answers[TARGET] = body(Content_Encoding=encoding)

    assert (await fetched(origin))[1] == BODY


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


CODED = {
    "gzip": gzip.compress(BODY),
    "X-GZip": gzip.compress(BODY),
    "gzip, aws-chunked": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "Deflate": raw_deflate(BODY),
    "gzip, gzip": gzip.compress(gzip.compress(BODY)),
    "deflate, gzip": gzip.compress(zlib.compress(BODY)),
    # Two members, and padding.
    "gzip, utf-8": gzip.compress(BODY[:1000]) + gzip.compress(BODY[1000:]) + bytes(512),
}


@pytest.mark.parametrize("encoding", CODED)
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_compressed_body_is_decoded(server: OriginServer, origin: HttpOrigin, encoding, chunked) -> None:
    data = CODED[encoding]
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    whole = body(data, Content_Encoding=encoding)
    server.answers[TARGET] = cut(chunks, Content_Encoding=encoding, Transfer_Encoding="chunked") if chunked else whole

    assert (await fetched(origin))[1] == BODY


async def test_codings_in_several_header_lines_are_one_list(server: OriginServer, origin: HttpOrigin) -> None:
    data = gzip.compress(gzip.compress(BODY))
    lines = (
        f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    server.answers[TARGET] = written(lines.encode() + data)

    assert (await fetched(origin))[1] == BODY


@pytest.mark.parametrize("data", [gzip.compress(BODY)[:-9], gzip.compress(BODY)[:-1], BODY, b"", b"\x1f\x8b"])
async def test_a_torn_compressed_body_is_a_failure(server: OriginServer, origin: HttpOrigin, data: bytes) -> None:
    server.answers[TARGET] = body(data, Content_Encoding="gzip")

    assert type(await failure(origin)) is SourceFailed


@pytest.mark.parametrize("times", [1, 2])
async def test_a_decompression_bomb_ends_at_the_limit(server: OriginServer, origin: HttpOrigin, times: int) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    for _ in range(times - 1):
        bomb = gzip.compress(bomb)
    server.answers[TARGET] = body(bomb, Content_Encoding=", ".join(["gzip"] * times))
    sink = BodySink(max_bytes=100_000)

    assert type(await failure(origin, sink)) is ImageOverLimit
    assert len(sink.data) <= 100_000


async def test_a_body_is_not_decoded_any_number_of_times(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = body(Content_Encoding=", ".join(["gzip"] * 4))

    assert "too often" in (await failure(origin)).detail


# Odd heads


def written(data: bytes):
    """The bytes of a whole response, one by one so that every line of the head is split."""

    async def answer(_, writer) -> None:
        for at in range(min(200, len(data))):
            writer.write(data[at : at + 1])
            await writer.drain()
        writer.write(data[200:])

    return answer


@pytest.mark.parametrize(
    "value", ["{0}\r\nContent-Length: {0}", "{0}\r\ncontent-LENGTH:{0} ", "{0}, {0}", "{0},{0},{0}"]
)
async def test_equal_content_lengths_are_one(server: OriginServer, origin: HttpOrigin, value: str) -> None:
    lines = f"HTTP/1.1 200 OK\r\nContent-Length: {value.format(len(BODY))}\r\n\r\n"
    server.answers[TARGET] = written(lines.encode() + BODY)

    response, data = await fetched(origin)
    assert (response.validators.size_bytes, data) == (len(BODY), BODY)
    assert (await fetched(origin))[1] == BODY
    assert server.connects == 1


@pytest.mark.parametrize(
    "value", ["{0}\r\nContent-Length: 5", "5\r\nContent-Length: {0}", "{0}, 5", "{0}\r\nContent-Length: +{0}"]
)
async def test_different_content_lengths_are_a_failure(server: OriginServer, origin: HttpOrigin, value: str) -> None:
    lines = f"HTTP/1.1 200 OK\r\nContent-Length: {value.format(len(BODY))}\r\n\r\n"
    server.answers[TARGET] = written(lines.encode() + BODY)

    assert type(await failure(origin)) is SourceFailed


async def test_a_head_behind_an_informational_one_is_read(server: OriginServer, origin: HttpOrigin) -> None:
    length = f"Content-Length: {len(BODY)}\r\n"
    head_103 = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    server.answers[TARGET] = written(f"{head_103}HTTP/1.1 200 OK\r\n{length}{length}\r\n".encode() + BODY)

    assert (await fetched(origin))[1] == BODY


@pytest.mark.parametrize("name", ["X-Policy", "Set-Cookie"])
async def test_a_header_line_may_be_32_kib_long(server: OriginServer, origin: HttpOrigin, name: str) -> None:
    server.answers[TARGET] = body(**{name.replace("-", "_"): "x" * 32_000})
    assert (await fetched(origin))[1] == BODY

    server.answers[TARGET] = body(**{name.replace("-", "_"): "x" * 33_000})
    assert type(await failure(origin)) is SourceFailed


async def test_an_original_changed_by_a_proxy_is_accepted(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = body(code=203)

    assert (await fetched(origin))[1] == BODY


@pytest.mark.parametrize("answer", [cut(b""), b"not http at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000])
async def test_malformed_http_is_a_failure(server: OriginServer, origin: HttpOrigin, answer) -> None:
    async def raw(_, writer) -> None:
        writer.write(answer)
        writer.write(b"\r\n\r\n")
        await writer.drain()
        writer.close()

    server.answers[TARGET] = raw if isinstance(answer, bytes) else cut(b"", Content_Length="many")

    assert type(await failure(origin)) is SourceFailed


# Limits and time-outs


async def test_a_content_length_over_the_limit_ends_the_fetch_before_the_body(server: OriginServer) -> None:
    server.answers[TARGET] = stalled(head(200, Content_Length=10_001))
    sink = BodySink()
    async with origin_of(server, max_bytes=10_000) as origin:
        error = await failure(origin, sink)
        await eventually(lambda: not server.open)

    assert type(error) is ImageOverLimit
    assert (sink.data, error.facts["allowed"]) == (b"", 10_000)


@pytest.mark.parametrize("promise", [{}, {"Transfer_Encoding": "chunked"}])
async def test_an_endless_body_ends_when_the_sink_refuses_a_chunk(
    server: OriginServer, promise: dict[str, object]
) -> None:
    server.answers[TARGET] = endless(b"ff\r\n" + bytes(255) + b"\r\n" if promise else bytes(4096), **promise)
    sink = BodySink(max_bytes=1 << 20)
    async with origin_of(server) as origin:
        assert type(await failure(origin, sink)) is ImageOverLimit
        await eventually(lambda: not server.open)

    assert len(sink.data) <= 1 << 20
    assert len(server.requests) == 1


async def test_a_body_as_large_as_the_limit_is_fetched(server: OriginServer) -> None:
    server.answers[TARGET] = body()
    async with origin_of(server, max_bytes=len(BODY)) as origin:
        assert (await fetched(origin))[1] == BODY


@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\nContent-", head(200, Content_Length=9), head(200) + b"half"]
)
async def test_a_silent_server_times_out(server: OriginServer, begun: bytes) -> None:
    server.answers[TARGET] = stalled(begun)
    before = time.monotonic()
    async with origin_of(server, idle_timeout_seconds=0.1) as origin:
        assert type(await failure(origin)) is DeadlineExceeded
        await eventually(lambda: not server.open)

    assert time.monotonic() - before < 4
    assert len(server.requests) == 1


async def test_a_slow_body_ends_with_the_total_time_out(server: OriginServer) -> None:
    server.answers[TARGET] = endless(b"x", pause_seconds=0.05, Content_Length=10_000)
    before = time.monotonic()
    async with origin_of(server, idle_timeout_seconds=5, total_timeout_seconds=0.4) as origin:
        assert type(await failure(origin)) is DeadlineExceeded
        await eventually(lambda: not server.open)

    assert 0.35 < time.monotonic() - before < 4


async def test_a_connection_attempt_ends_with_the_connect_time_out(server: OriginServer) -> None:
    class Silence(ScriptedResolver):
        async def resolve(self, host: str, port: int = 0, family: int = 0):
            self.lookups.append(host)
            await asyncio.Event().wait()

    names = Silence({})
    before = time.monotonic()
    async with origin_of(
        server, base="http://a.example/", connect_timeout_seconds=0.1, max_attempts=2, resolver=names
    ) as origin:
        assert type(await failure(origin)) is DeadlineExceeded

    assert 0.15 < time.monotonic() - before < 4


async def test_a_silent_tls_handshake_ends_with_the_connect_time_out(server: OriginServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        base = f"https://127.0.0.1:{mute.getsockname()[1]}/"
        async with origin_of(server, base=base, connect_timeout_seconds=0.1, max_attempts=1) as origin:
            assert type(await failure(origin)) is DeadlineExceeded


async def test_connections_are_bounded_and_the_wait_for_one_ends_with_the_connect_time_out(
    server: OriginServer,
) -> None:
    server.answers[TARGET] = stalled()
    async with origin_of(
        server, connections=2, connect_timeout_seconds=0.1, max_attempts=1, idle_timeout_seconds=0.5
    ) as origin:
        begun = [asyncio.create_task(origin.fetch(PATH, BodySink())) for _ in range(2)]
        await eventually(lambda: len(server.requests) == 2)
        assert type(await failure(origin)) is DeadlineExceeded
        assert not any(task.done() for task in begun)
        await asyncio.wait(begun)
        assert [type(task.exception()) for task in begun] == [DeadlineExceeded] * 2

    assert server.connects == 2


async def test_a_cancelled_fetch_closes_its_connection(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = stalled()
    fetching = asyncio.create_task(origin.fetch(PATH, BodySink()))
    await eventually(lambda: server.requests)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching

    await eventually(lambda: not server.open)


@pytest.mark.parametrize("fault", [ImageOverLimit(), OSError(errno.ENOSPC, "full"), TimeoutError(), ValueError()])
async def test_an_exception_of_the_sink_reaches_the_caller(
    server: OriginServer, origin: HttpOrigin, fault: Exception
) -> None:
    server.answers[TARGET] = body()

    async def sink(_: bytes) -> None:
        raise fault

    with pytest.raises(type(fault)) as caught:
        await origin.fetch(PATH, sink)
    assert caught.value is fault
    assert len(server.requests) == 1


async def test_running_out_of_sockets_is_unavailable(
    server: OriginServer, origin: HttpOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(http_session.socket, "socket", none_left)

    error = await failure(origin)
    assert type(error) is Unavailable
    assert error.facts == {"reason": "memory", "retry_after": 1}


# Stat requests


@pytest.mark.parametrize("code", [400, 401, 403, 405, 501])
async def test_a_refused_head_becomes_a_get_whose_body_is_not_read(
    server: OriginServer, origin: HttpOrigin, code: int
) -> None:
    async def answer(asked, writer) -> None:
        await (status(code) if asked.method == "HEAD" else endless(ETag='"one"'))(asked, writer)

    server.answers[TARGET] = answer

    assert await origin.stat(PATH) == OriginResponse(Validators('"one"'))
    await eventually(lambda: not server.open)


# Redirects


async def test_allowed_redirects_are_followed(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = redirect("b.jpg")
    server.answers["/assets/b.jpg"] = redirect("/assets/c.jpg?v=1#piece", 301)
    server.answers["/assets/c.jpg?v=1"] = redirect("../assets/./x/../d%20e.jpg", 308)
    server.answers["/assets/d%20e.jpg"] = body(ETag='"one"')

    assert (await fetched(origin))[1] == BODY
    assert (await origin.stat(PATH)).validators.etag == '"one"'
    assert [asked.method for asked in server.requests] == ["GET"] * 4 + ["HEAD"] * 4
    assert not any("referer" in asked.fields for asked in server.requests)


async def test_more_redirects_than_allowed_are_a_failure(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = redirect(TARGET)

    assert type(await failure(origin)) is SourceFailed
    assert len(server.requests) == 4


async def test_max_redirects_may_be_zero(server: OriginServer) -> None:
    server.answers[TARGET] = redirect("b.jpg")
    async with origin_of(server, max_redirects=0) as origin:
        assert type(await failure(origin)) is SourceFailed


async def test_a_redirect_without_a_location_is_a_failure(server: OriginServer, origin: HttpOrigin) -> None:
    server.answers[TARGET] = status(302)

    assert type(await failure(origin)) is SourceFailed


async def test_secret_headers_are_not_sent_to_another_server(server: OriginServer) -> None:
    async with origin_server() as other:
        there = f"http://127.0.0.1:{other.port}/"
        server.answers[TARGET] = redirect(there + "a.jpg")
        other.answers["/a.jpg"] = body()
        async with origin_of(server, headers=("Authorization: Bearer secret",), allowed=(there,)) as origin:
            await fetched(origin)

        assert "authorization" in server.requests[0].fields
        assert "authorization" not in other.requests[0].fields


# TLS


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[OriginServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("cdn.example.com").configure_cert(context)
    async with origin_server(tls=context) as running:
        running.answers[TARGET] = body()
        yield running


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def names() -> ScriptedResolver:
    return ScriptedResolver({"cdn.example.com": [["127.0.0.1"]], "other.example.com": [["127.0.0.1"]]})


async def test_https_works(secure: OriginServer, trusting: ssl.SSLContext) -> None:
    async with origin_of(secure, scheme="https", host="cdn.example.com", tls=trusting, resolver=names()) as origin:
        assert (await fetched(origin))[1] == BODY


async def test_a_certificate_for_another_name_is_refused(secure: OriginServer, trusting: ssl.SSLContext) -> None:
    async with origin_of(secure, scheme="https", host="other.example.com", tls=trusting, resolver=names()) as origin:
        assert type(await failure(origin)) is SourceFailed

    assert secure.requests == []


async def test_a_certificate_of_an_unknown_authority_is_refused_by_default(secure: OriginServer) -> None:
    async with origin_of(secure, scheme="https", host="cdn.example.com", resolver=names()) as origin:
        assert type(await failure(origin)) is SourceFailed

    assert secure.requests == []


async def test_a_redirect_from_https_to_http_is_denied(
    secure: OriginServer, server: OriginServer, trusting: ssl.SSLContext
) -> None:
    events: list[tuple[str, str]] = []
    secure.answers[TARGET] = redirect(f"http://127.0.0.1:{server.port}/a.jpg")
    async with origin_of(
        secure,
        scheme="https",
        host="cdn.example.com",
        tls=trusting,
        resolver=names(),
        allowed=(f"http://127.0.0.1:{server.port}/",),
        audit=lambda event, *, reason, **_: events.append((event, reason)),
    ) as origin:
        assert type(await failure(origin)) is SourceDenied

    assert events == [("redirect_denied", "downgrade")]
    assert server.connects == 0
