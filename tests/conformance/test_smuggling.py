"""Request smuggling through a cache (RFC 9112, section 11.2): two parsers may read these requests differently.

The cached copies for other clients must stay right. The server alone: tests/web/test_connections.py.
"""

import re
import struct

import pytest

from tests.conformance.conftest import FRONTS
from tests.running_server import serving
from tests.web.test_connections import CHUNKED, MALFORMED

# An empty chunked body, then a second request: a parser that does not expect a body reads it as the next request. Its
# last header swallows the request line of what follows, whose Host header it needs.
HIDDEN = b"GET /img/w_33/cat.png HTTP/1.1\r\nX: "
BODY = b"\r\n0\r\n\r\n" + HIDDEN
POST = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
SMUGGLING = {
    "length, then chunks": POST + CHUNKED + BODY,
    "chunks, hidden by a space": POST + b"Transfer-Encoding : chunked\r\n" + BODY,
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
    """A server with a separate cache in front: these requests may leave wrong copies in it."""
    with (
        serving(workers_count=2) as server,
        request.param(tmp_path_factory.mktemp("front"), server) as front,
    ):
        yield server, front


@pytest.mark.parametrize("name", ATTACKS)
def test_the_next_request_and_other_clients_get_the_right_picture(guarded, name):
    _, front = guarded
    attacked, next_one, other = (100 + 3 * list(ATTACKS).index(name) + number for number in range(3))
    received = front.send(aimed(ATTACKS[name], attacked) + get(next_one), patience=0.15)

    assert {*widths(received)} <= {attacked, next_one, 33}
    for width in (attacked, next_one, other, 33):
        answer = front.ask(target(width))
        assert (answer.status, widths(answer.body)) == (200, [width])
        assert front.is_copy(front.ask(target(width)))


@pytest.mark.parametrize("name", SMUGGLING)
def test_the_server_alone_does_not_answer_a_smuggled_request(guarded, name):
    """Directly, followed by a request for another picture."""
    server, _ = guarded
    received = server.send(aimed(SMUGGLING[name], 90) + get(91), patience=0.15)

    # After the last chunk, it is a request of its own right.
    assert (33 in widths(received)) == (name == "chunks of GET")


def aimed(raw: bytes, width: int) -> bytes:
    """The attack on this picture; Content-Length is the length of what follows the head."""
    length = len(raw.partition(b"\r\n\r\n")[2])
    return raw.replace(b"%s", target(width).encode()).replace(b"%d", b"%d" % length)


def target(width: int) -> str:
    return f"/img/w_{width}/cat.png"


def get(width: int) -> bytes:
    return f"GET {target(width)} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


def widths(data: bytes) -> list[int]:
    """The width of every PNG in `data`."""
    return [struct.unpack(">I", found)[0] for found in re.findall(rb"\x89PNG\r\n\x1a\n....IHDR(....)", data, re.S)]
