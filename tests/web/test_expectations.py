"""Expect headers, and targets without a path: the server itself answers each of them."""

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader
from aiohttp.test_utils import make_mocked_request

from imgserver.web.request_body import read_small_body
from tests.running_server import serving

KEY = "planted-key-of-this-suite-0123456"


@pytest.mark.parametrize("target", [b"/livez", b"/metrics", b"/nothing", b"/img/w_40/cat.png"])
@pytest.mark.parametrize("expected", [b"\xe9", b"miracles", b"<script>", b"100-continue, miracles"])
def test_an_unknown_expectation_is_ignored(server, target, expected):
    received = server.send(
        b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: " + expected + b"\r\n\r\n"
    )

    assert received[9:12] == (b"404" if target == b"/nothing" else b"200")
    assert b"Server: imgserver\r\n" in received


@pytest.mark.parametrize("line", [b"CONNECT a:80", b"GET *"])
def test_a_target_without_a_path_gets_a_problem(server, line):
    received = server.send(line + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert received[9:12] in (b"400", b"404", b"405")
    assert b"Server: imgserver\r\n" in received
    assert b"problem+json" in received


async def test_a_purge_body_in_pieces_is_read_completely():
    content = StreamReader(Mock(_reading_paused=False), limit=2**16)
    read = asyncio.create_task(
        read_small_body(make_mocked_request("POST", "/", payload=content), max_bytes=100, seconds=10)
    )
    for piece in (b'{"source"', b': "cat.png"}'):
        content.feed_data(piece)
        await asyncio.sleep(0)
    content.feed_eof()

    assert await read == b'{"source": "cat.png"}'


def test_a_purge_that_expects_100_continue_gets_it():
    with serving(workers_count=1, admin_key=KEY) as server:
        server.ask("/img/w_40/cat.png")
        head = (
            b"POST /api/admin/purge HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 21\r\n"
            b"Expect: 100-continue\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n\r\n"
        )
        received = server.send(head + b'{"source": "cat.png"}')

        assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert server.ask("/img/w_40/cat.png").cache_status != "imgserver; hit"
