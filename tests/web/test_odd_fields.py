"""Unexpected request headers: they cause no error, change no byte of a response, and add no cache key."""

import random
import string

import pytest

PICTURE = "/img/w_60/cat.png"
NEGOTIATED = "/img/w_60,f_auto/cat.png"

# Headers by which other servers and frameworks choose their responses.
IGNORED_HEADERS = {
    "Cookie": "session=1",
    "Authorization": "Basic eDp5",
    "Forwarded": "for=192.0.2.1;host=evil.example;proto=https",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/evil",
    "X-Original-URL": "/img/w_70/dogs.jpg",
    "X-Rewrite-URL": "/img/w_70/dogs.jpg",
    "X-HTTP-Method-Override": "DELETE",
    "Accept-Encoding": "gzip, br",
    "Accept-Language": "de",
    "Cache-Control": "no-cache, no-store",
    "Pragma": "no-cache",
    "Origin": "https://evil.example",
    "Referer": "https://evil.example/",
    "Upgrade": "h2c",
    "Save-Data": "on",
    "Width": "3",
    "DPR": "9",
    "Accept": "image/webp",
    "If-Match": "*",
    "If-Range": '"another"',
    "User-Agent": "x" * 4000,
}
OF_ITS_MOMENT = ("Date", "X-Request-Id", "Cache-Status")
# A loopback server sends them through a proxy only (tests/web/test_cors.py).
CORS = ("Access-Control-Allow-Origin", "Timing-Allow-Origin")


@pytest.mark.parametrize("name", IGNORED_HEADERS)
def test_a_header_that_no_response_depends_on_changes_no_byte_and_no_key(server, name):
    plain = server.ask(PICTURE)
    odd = server.ask(PICTURE, headers={name: IGNORED_HEADERS[name]})

    assert (odd.status, odd.body) == (200, plain.body)
    assert fields_of(odd) == fields_of(plain)
    assert odd.cache_status == "imgserver; hit"


def fields_of(answer):
    return {name: value for name, value in answer.headers.items() if name not in (*OF_ITS_MOMENT, *CORS)}


def test_the_host_changes_no_byte_and_no_key(server):
    answers = [
        server.send(f"GET {PICTURE} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()).partition(
            b"\r\n\r\n"
        )
        for host in ("127.0.0.1", "evil.example", "evil.example:1", "[::1]")
    ]

    assert {body for _, _, body in answers} == {server.ask(PICTURE).body}
    assert not any(b"evil" in head for head, _, _ in answers)


@pytest.mark.parametrize(
    "accept", ["image/webp, ,*/*", "image/avif, ;", "image/webp,;q=1", 'image/webp,"', "image/,;,"]
)
def test_an_accept_with_empty_members_is_parsed(server, accept):
    assert server.ask(NEGOTIATED, headers={"Accept": accept}).status == 200


HEARD = ("Accept", "Range", "If-None-Match", "If-Modified-Since", "If-Range", "Priority", "Sec-Purpose", "X-Request-Id")
ALPHABETS = (
    'image/avif,webp;q=0.1" \\',
    "bytes=0-9, ",
    "Mon, 01 Jan 2020:GMT+-()",
    string.printable[:95],
    "\xff\xe9 ;=,",
)


def test_random_headers_never_cause_a_500(server):
    """A thousand requests: each 500 would write a traceback, and an attacker could fill the log."""
    draw = random.Random(7)
    for _ in range(1000):
        headers = {name: made_up(draw) for name in draw.sample(HEARD, 3)}

        assert server.ask(NEGOTIATED, headers=headers).status in (200, 206, 304, 400, 416), headers


def made_up(draw: random.Random) -> str:
    alphabet = draw.choice(ALPHABETS)
    text = "".join(draw.choice(alphabet) for _ in range(draw.choice((3, 20, 300))))
    return draw.choice(("", "image/webp,", "bytes=")) + text


@pytest.mark.parametrize("shape", ['"', " ", ",", ";", "a,", '"\\', "image/avif;", 'W/"', "u=", "bytes=1-1,", "9", "("])
@pytest.mark.parametrize("name", HEARD[:6])
def test_a_header_of_eight_thousand_bytes_is_parsed_quickly(server, name, shape):
    field = ("image/webp," + shape * 8000)[:8000]
    answers = [server.ask(NEGOTIATED, headers={name: field}) for _ in range(3)]

    assert min(answer.seconds for answer in answers) < 0.1
