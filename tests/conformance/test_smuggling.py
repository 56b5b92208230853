"""Requests that two readers might take differently, through a cache: whatever becomes of them, the copies that others
are shown stay right. What the server itself does with them: tests/web/test_connections.py."""

import re
import struct

import pytest

from tests.conformance.conftest import FRONTS
from tests.running_server import serving
from tests.web.test_connections import CHUNKED, MALFORMED

# A body, ended for whoever reads chunks, and behind it another request for whoever takes it for no body. That one
# swallows the line of what comes behind it, whose Host it needs.
HIDDEN = b"GET /img/w_33/cat.png HTTP/1.1\r\nX: "
BODY = b"\r\n0\r\n\r\n" + HIDDEN
POST = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
SMUGGLING = {
    "length, then chunks": POST + CHUNKED + BODY,
    "chunks, hidden by a blank": POST + b"Transfer-Encoding : chunked\r\n" + BODY,
    "chunks, hidden by a coding": POST + b"Transfer-Encoding: xchunked\r\n" + BODY,
    "a body of GET": b"GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" + BODY,
    "chunks of GET": b"GET %s HTTP/1.1\r\nHost: a\r\n" + CHUNKED + BODY,
    "the absolute form": b"GET http://other.example%s HTTP/1.1\r\nHost: a\r\n\r\n",
    "an upgrade": b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + HIDDEN,
    "an expectation": POST + b"Expect: 100-continue\r\n\r\n" + HIDDEN,
}
ATTACKS = {**MALFORMED, **SMUGGLING}


@pytest.fixture(scope="module", params=FRONTS)
def guarded(request, tmp_path_factory):
    """A server and a cache of its own before it: these requests may leave odd copies behind."""
    with (
        serving(workers_count=2) as server,
        request.param(tmp_path_factory.mktemp("front"), server) as front,
    ):
        yield server, front


@pytest.mark.parametrize("name", ATTACKS)
def test_the_next_request_on_the_connection_and_all_others_get_their_own_picture(guarded, name):
    _, front = guarded
    attacked, next_one, other = (100 + 3 * list(ATTACKS).index(name) + number for number in range(3))
    received = front.send(aimed(ATTACKS[name], attacked) + get(next_one), patience=0.15)

    assert {*widths(received)} <= {attacked, next_one, 33}
    for width in (attacked, next_one, other, 33):
        answer = front.ask(target(width))
        assert (answer.status, widths(answer.body)) == (200, [width])
        assert front.is_copy(front.ask(target(width)))


@pytest.mark.parametrize("name", SMUGGLING)
def test_the_server_alone_answers_no_hidden_request(guarded, name):
    """Directly, with a request behind it that asks for another picture."""
    server, _ = guarded
    received = server.send(aimed(SMUGGLING[name], 90) + get(91), patience=0.15)

    # Only behind chunks that have ended is it no body at all.
    assert (33 in widths(received)) == (name == "chunks of GET")


def aimed(raw: bytes, width: int) -> bytes:
    """The attack on this picture, with the length of what is behind its head."""
    length = len(raw.partition(b"\r\n\r\n")[2])
    return raw.replace(b"%s", target(width).encode()).replace(b"%d", b"%d" % length)


def target(width: int) -> str:
    return f"/img/w_{width}/cat.png"


def get(width: int) -> bytes:
    return f"GET {target(width)} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


def widths(data: bytes) -> list[int]:
    """Of every PNG in it."""
    return [struct.unpack(">I", found)[0] for found in re.findall(rb"\x89PNG\r\n\x1a\n....IHDR(....)", data, re.S)]
