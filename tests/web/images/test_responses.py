"""A hit in ready bytes says what the framework's own answer says."""

import re

import pytest

from imgserver.web.images.responses import spell
from tests.running_server import Answer, ServerProcess, serving

PICTURE = "/img/w_60,f_auto/cat.png"
# Of one answer alone.
OWN = {"date", "x-request-id", "connection", "cache-status"}


@pytest.fixture(scope="module")
def server():
    with serving(workers_count=1, disk_limit_bytes=0) as running:
        running.ask(PICTURE)
        yield running


def fields_of(answer: Answer) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items() if name.lower() not in OWN}


def etag_of(server: ServerProcess) -> str:
    return server.ask(PICTURE).headers["ETag"]


@pytest.mark.parametrize("conditional", [False, True])
def test_a_kept_connection_gets_the_fields_of_any_other(server, conditional):
    asked = {"If-None-Match": etag_of(server)} if conditional else {}
    ready, spelled = server.ask(PICTURE, headers=asked), server.ask(PICTURE, headers={**asked, "Connection": "close"})

    assert (ready.status, ready.body) == (spelled.status, spelled.body)
    assert fields_of(ready) == fields_of(spelled)
    for answer in (ready, spelled):
        assert re.fullmatch(r"imgserver; hit; ttl=\d+", answer.headers["Cache-Status"])
        assert answer.headers["Date"].endswith(" GMT")
    assert spelled.headers["Connection"] == "close"
    assert ready.headers["Connection"] is None


def test_a_hit_carries_the_clients_request_id(server):
    assert server.ask(PICTURE, headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"


def test_answers_follow_one_another_on_one_connection(server):
    """Pipelined: a length told wrongly would tear the next answer."""
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
    assert received.endswith(server.ask(PICTURE).body)


def test_a_name_that_is_not_ascii_is_sent_in_both_forms(server):
    target = "/img/w_60,fl_attachment/cat.png"
    fresh, hit = server.ask(target), server.ask(target)

    assert (
        hit.headers["Content-Disposition"] == fresh.headers["Content-Disposition"] == 'attachment; filename="cat.png"'
    )


def test_a_field_with_a_line_break_is_never_sent():
    with pytest.raises(ValueError, match="line break"):
        spell(200, [("X", "a\r\nY: b")])


def test_hits_are_counted_like_all_else(server):
    before = server.metric("imgserver_lookups_total", outcome="hit")
    body = server.ask(PICTURE).body
    bytes_before = server.metric("imgserver_http_response_bytes_total", route="image")
    server.ask(PICTURE)

    assert server.metric("imgserver_lookups_total", outcome="hit") == before + 2
    assert server.metric("imgserver_http_response_bytes_total", route="image") == bytes_before + len(body)
