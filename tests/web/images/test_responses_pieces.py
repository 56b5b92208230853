"""A large body arrives whole, whatever part of it is asked for."""

import pytest

from imgserver.web.images.responses import PIECE_BYTES
from tests.running_server import ServerProcess

LARGE = "/img/w_900,f_png/creek.jpg"


def test_a_large_picture_arrives_whole_and_again_from_the_cache(server: ServerProcess):
    answers = [server.ask(LARGE) for _ in range(2)]

    assert len(answers[0].body) > 3 * PIECE_BYTES
    assert answers[0].body.endswith(b"IEND\xaeB`\x82")
    assert answers[0].body == answers[1].body
    assert {answer.headers["Content-Length"] for answer in answers} == {str(len(answers[0].body))}
    assert answers[0].headers["Content-Type"] == "image/png"
    assert "Transfer-Encoding" not in answers[0].headers


def test_head_tells_the_length_of_a_large_picture_and_no_body(server):
    whole, head = server.ask(LARGE), server.ask(LARGE, "HEAD")

    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(whole.body))
    assert head.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize("length", [1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
def test_a_range_over_the_pieces_edges_is_exact(server, length):
    whole = server.ask(LARGE).body
    part = server.ask(LARGE, headers={"Range": f"bytes=1000-{1000 + length - 1}"})

    assert (part.status, part.body) == (206, whole[1000 : 1000 + length])


def test_several_large_pictures_follow_each_other_on_one_connection(server):
    whole = server.ask(LARGE).body
    request = f"GET {LARGE} HTTP/1.1\r\nHost: a\r\n".encode()
    received = server.send(2 * (request + b"\r\n") + request + b"Connection: close\r\n\r\n")

    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(whole) == 3
