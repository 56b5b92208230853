"""The responses of the image handler: their heads on all ways, and large bodies."""

import re

import pytest
from multidict import CIMultiDict

from imgserver.web.images.responses import CHUNK_BYTES, serialize
from tests.running_server import Answer, ServerProcess, serving

PICTURE = "/img/w_60,f_auto/cat.png"
LARGE = "/img/w_900,f_png/creek.jpg"
# Headers that differ from response to response.
CHANGING = {"date", "x-request-id", "connection", "cache-status"}


@pytest.fixture(scope="module")
def server():
    with serving(workers_count=1, disk_limit_bytes=0) as running:
        running.ask(PICTURE)
        yield running


def stable_headers(response: Answer) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items() if name.lower() not in CHANGING}


def etag_of(server: ServerProcess) -> str:
    return server.ask(PICTURE).headers["ETag"]


@pytest.mark.parametrize("conditional", [False, True])
def test_a_connection_that_closes_gets_the_headers_of_one_that_persists(server, conditional):
    condition = {"If-None-Match": etag_of(server)} if conditional else {}
    persistent = server.ask(PICTURE, headers=condition)
    closing = server.ask(PICTURE, headers={**condition, "Connection": "close"})

    assert (persistent.status, persistent.body) == (closing.status, closing.body)
    assert stable_headers(persistent) == stable_headers(closing)
    for response in (persistent, closing):
        assert re.fullmatch(r"imgserver; hit; ttl=\d+", response.headers["Cache-Status"])
        assert response.headers["Date"].endswith(" GMT")
    assert closing.headers["Connection"] == "close"
    assert persistent.headers["Connection"] is None


def test_a_hit_has_the_request_id_of_the_client(server):
    assert server.ask(PICTURE, headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"


def test_pipelined_responses_have_the_lengths_that_they_declare(server):
    """A wrong length would tear the next response."""
    etag = etag_of(server)
    one = f"GET {PICTURE} HTTP/1.1\r\nHost: a\r\n\r\n"
    two = f"GET {PICTURE} HTTP/1.1\r\nHost: a\r\nIf-None-Match: {etag}\r\n\r\n"
    three = f"HEAD {PICTURE} HTTP/1.1\r\nHost: a\r\n\r\n"
    last = f"GET {PICTURE} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    received = server.send((one + two + three + one + last).encode())
    body = server.ask(PICTURE).body

    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", received)]
    assert statuses == [200, 304, 200, 200, 200]
    assert received.count(body) == 3
    assert received.endswith(body)


def test_http_1_0_is_answered_and_closed(server):
    received = server.send(f"GET {PICTURE} HTTP/1.0\r\nHost: a\r\n\r\n".encode())

    assert received.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"\r\nConnection:" not in received
    assert received.endswith(server.ask(PICTURE).body)


def test_http_1_0_may_ask_for_a_persistent_connection(server):
    keep = f"GET {PICTURE} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    received = server.send((keep + f"GET {PICTURE} HTTP/1.0\r\nHost: a\r\n\r\n").encode())

    assert received.count(b"HTTP/1.0 200 OK\r\n") == 2
    assert received.count(b"\r\nConnection: keep-alive\r\n") == 1


def test_a_name_for_saving_is_sent_with_hits_too(server):
    target = "/img/w_60,fl_attachment/cat.png"
    miss, hit = server.ask(target), server.ask(target)

    assert hit.headers["Content-Disposition"] == miss.headers["Content-Disposition"] == 'attachment; filename="cat.png"'


@pytest.mark.parametrize("value", ["a\r\nY: b", "a\nY: b", "a\rb"])
def test_a_header_with_a_line_break_is_never_sent(value):
    with pytest.raises(ValueError, match="line break"):
        serialize(200, CIMultiDict({"X": value}))


def test_hits_are_counted_as_all_other_responses(server):
    before = server.metric("imgserver_lookups_total", outcome="hit")
    body = server.ask(PICTURE).body
    bytes_before = server.metric("imgserver_http_response_bytes_total", route="image")
    server.ask(PICTURE)

    assert server.metric("imgserver_lookups_total", outcome="hit") == before + 2
    assert server.metric("imgserver_http_response_bytes_total", route="image") == bytes_before + len(body)


def test_a_large_body_arrives_complete_from_a_render_and_from_the_cache(server):
    answers = [server.ask(LARGE) for _ in range(2)]

    assert len(answers[0].body) > 3 * CHUNK_BYTES
    assert answers[0].body.endswith(b"IEND\xaeB`\x82")
    assert answers[0].body == answers[1].body
    assert {answer.headers["Content-Length"] for answer in answers} == {str(len(answers[0].body))}
    assert answers[0].headers["Content-Type"] == "image/png"
    assert "Transfer-Encoding" not in answers[0].headers


def test_head_has_the_length_of_a_large_body_and_no_body(server):
    whole, head = server.ask(LARGE), server.ask(LARGE, "HEAD")

    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(whole.body))
    assert head.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize("length", [1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_a_range_across_chunks_is_exact(server, length):
    whole = server.ask(LARGE).body
    part = server.ask(LARGE, headers={"Range": f"bytes=1000-{1000 + length - 1}"})

    assert (part.status, part.body) == (206, whole[1000 : 1000 + length])


def test_large_bodies_follow_each_other_on_one_connection(server):
    whole = server.ask(LARGE).body
    request = f"GET {LARGE} HTTP/1.1\r\nHost: a\r\n".encode()
    received = server.send(2 * (request + b"\r\n") + request + b"Connection: close\r\n\r\n")

    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(whole) == 3
