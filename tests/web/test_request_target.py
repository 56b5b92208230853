"""Rare requests: targets in other forms, unusual hosts and methods, expectations, upgrades, and unexpected bodies."""

import json
import re
import socket

import pytest

from imgserver.security.signing import Keyring, SigningKey
from tests.running_server import ServerProcess, serving

KEY = "a key of sixteen characters"
SIGNER = bytes(range(32))
TAIL = "w_30/cat.png"
SIGNED = f"/img/s--{Keyring((SigningKey(SIGNER),)).sign(TAIL, source='photos')}--/{TAIL}"
PICTURE = "/img/w_50,f_webp/cat.png"
GET_AND_HEAD = ("/livez", "/readyz", "/api/health", "/api/image/health", "/metrics", "/")
POSTS = ("/api/admin/purge", "/api/admin/sweep", "/api/image/optimize")
EVERY = (*GET_AND_HEAD, *POSTS, PICTURE, "/nosuch")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "LOCK")
ALLOWED = {
    **{target: {"GET", "HEAD"} for target in GET_AND_HEAD},
    **{target: {"POST"} for target in POSTS},
    PICTURE: {"GET", "HEAD", "OPTIONS"},
    # An unknown path: 404 for every known method.
    "/nosuch": {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"},
}
HOSTS = ("", "b", "a:99999", "[::1]", "a.example:80", "127.0.0.1", "169.254.169.254")
BAD_HOSTS = ("a b", "a:abc", "[::1", "a/b", "user@a", "a\xff", "\xe4")


@pytest.fixture(scope="module")
def one() -> ServerProcess:
    with serving(workers_count=1, admin_key=KEY, server_gallery="on") as running:
        yield running


@pytest.fixture(scope="module")
def signed() -> ServerProcess:
    with serving(
        workers_count=1, source_name="photos", signing_mode="required", signing_keys=SIGNER.hex(), server_gallery="off"
    ) as running:
        yield running


def parse_response(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


def raw(server: ServerProcess, line: str, *, fields: str = "", host: str = "a", patience: float = 5) -> bytes:
    head = f"{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n"
    return server.send(head.encode("latin-1"), patience=patience)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", EVERY)
def test_an_unsupported_method_is_405_with_allow(one, target, method):
    answer = one.ask(target, method)

    if method in ALLOWED[target]:
        assert answer.status != 405
    else:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(",")) == ALLOWED[target]
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Server"] == "imgserver"


@pytest.mark.parametrize("target", [*GET_AND_HEAD, PICTURE, "/nosuch", "/img/w_x/cat.png"])
def test_head_has_the_status_and_headers_of_get_and_no_body(one, target):
    one.ask(target)
    got, headed = one.ask(target), one.ask(target, "HEAD")

    assert headed.body == b""
    assert headed.status == got.status
    assert set(headed.headers) == set(got.headers)
    assert headed.headers["Content-Type"] == got.headers["Content-Type"]


@pytest.mark.parametrize("target", [*GET_AND_HEAD[:-1], *POSTS])
def test_a_trailing_slash_is_another_path(one, target):
    assert one.ask(target + "/").status == 404


@pytest.mark.parametrize("target", [*GET_AND_HEAD[:4], PICTURE, PICTURE + "?v=3", "/nosuch", "/img/w_x/cat.png"])
@pytest.mark.parametrize("host", ["http://a", "http://b.example:81", "https://user:secret@b", "HTTP://[::1]:80"])
def test_an_absolute_target_gets_the_response_of_its_origin_form(one, target, host):
    one.ask(target)
    plain, absolute = parse_response(raw(one, f"GET {target}")), parse_response(raw(one, f"GET {host}{target}"))

    assert absolute[0] == plain[0]
    assert {**absolute[1], "X-Request-Id": ""}.keys() == plain[1].keys()
    for name in ("ETag", "Content-Type", "Cache-Control", "X-Imgserver-Error"):
        assert absolute[1].get(name) == plain[1].get(name)
    if plain[0] == 200 and target.startswith("/img"):
        assert absolute[2] == plain[2]


def test_an_absolute_target_has_the_cache_key_of_its_origin_form(one):
    target = "/img/w_61/cat.png"

    assert "fwd=uri-miss" in parse_response(raw(one, f"GET http://a{target}"))[1]["Cache-Status"]
    assert parse_response(raw(one, f"GET http://b{target}"))[1]["Cache-Status"].startswith("imgserver; hit")
    assert one.ask(target).cache_status == "imgserver; hit"


def test_a_signature_covers_the_origin_form(signed):
    assert parse_response(raw(signed, f"GET {SIGNED}"))[0] == 200
    assert parse_response(raw(signed, f"GET http://a{SIGNED}"))[0] == 200
    assert parse_response(raw(signed, f"GET http://b.example{SIGNED}"))[0] == 200
    assert parse_response(raw(signed, f"GET http://a{SIGNED}".replace("w_30", "w_31")))[0] == 403
    assert parse_response(raw(signed, f"GET http://a/img/{TAIL}"))[0] == 403


def test_a_query_is_part_of_both_forms(one):
    info = json.loads(parse_response(raw(one, f"GET http://a/img/f_info/{PICTURE.rpartition('/')[2]}"))[2])
    version = info["original"]["version"]
    assert "immutable" in parse_response(raw(one, f"GET http://a{PICTURE}?v={version}"))[1]["Cache-Control"]
    assert "immutable" not in parse_response(raw(one, f"GET http://a{PICTURE}"))[1]["Cache-Control"]
    key = f"Authorization: Bearer {KEY}\r\n"
    assert b"wd" in parse_response(raw(one, "POST http://a/api/image/optimize?wd=3", fields=key))[2]


def test_an_absolute_target_without_a_path_is_the_gallery(one):
    assert parse_response(raw(one, "GET http://a"))[1]["Content-Type"].startswith("text/html")
    assert parse_response(raw(one, "GET http://a?x"))[1]["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("line", ["GET ftp://a/livez", "GET ftp://a" + PICTURE, "GET http://a//livez"])
def test_another_scheme_and_two_slashes_match_no_route(one, line):
    status, fields, _ = parse_response(raw(one, line))

    assert status == 404
    assert fields["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "line", ["GET http:///livez", "GET http://[a/livez", "GET http://a:99999/livez", "GET *", "GET a"]
)
def test_an_invalid_target_is_a_malformed_request(one, line):
    assert parse_response(raw(one, line))[0] == 400


@pytest.mark.parametrize("target", ["*", "http://a"])
def test_options_of_the_whole_server_lists_its_methods(one, target):
    status, fields, body = parse_response(raw(one, f"OPTIONS {target}"))

    assert (status, fields["Allow"], body) == (204, "GET, HEAD, POST, OPTIONS", b"")
    assert fields["Server"] == "imgserver"
    assert fields["X-Request-Id"]


def test_connect_is_refused(one):
    status, fields, body = parse_response(raw(one, "CONNECT a:80"))

    assert status == 405
    assert b"aiohttp" not in body and fields["Server"] == "imgserver"


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_changes_nothing(one, host):
    one.ask(PICTURE)
    plain, odd = parse_response(raw(one, f"GET {PICTURE}")), parse_response(raw(one, f"GET {PICTURE}", host=host))

    assert odd[0] == 200
    assert odd[1]["Cache-Status"].startswith("imgserver; hit")
    assert odd[1].keys() == plain[1].keys()
    assert odd[2] == plain[2]
    assert parse_response(raw(one, "GET /livez", host=host))[0] == 200


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_an_invalid_host_is_a_malformed_request_for_hits_too(one, host):
    one.ask(PICTURE)

    assert [parse_response(raw(one, f"GET {target}", host=host))[0] for target in (PICTURE, "/livez")] == [400, 400]


@pytest.mark.parametrize("target", [*GET_AND_HEAD, PICTURE, "/nosuch"])
@pytest.mark.parametrize("expected", ["100-continue", "something else"])
def test_an_expectation_without_a_body_to_read_is_answered_immediately(one, target, expected):
    answer = raw(one, f"GET {target}", fields=f"Expect: {expected}\r\n")

    assert answer.count(b"HTTP/1.1 ") == 1
    assert parse_response(answer)[0] == one.ask(target).status
    assert b"aiohttp" not in answer.partition(b"\r\n\r\n")[0]


def test_a_purge_without_a_key_gets_no_100_continue(one):
    fields = "Expect: 100-continue\r\nContent-Length: 13\r\n"

    assert parse_response(raw(one, "POST /api/admin/purge", fields=fields, patience=0.5))[0] == 401


def test_a_purge_with_a_key_gets_100_continue(one):
    fields = f"Expect: 100-continue\r\nContent-Length: 13\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", one.port), timeout=10) as connection:
        connection.sendall(b"POST /api/admin/purge HTTP/1.1\r\nHost: a\r\n" + fields.encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"all": true}')
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("target", ["/livez", PICTURE])
@pytest.mark.parametrize("protocol", ["h2c", "websocket", "foo"])
def test_an_upgrade_is_declined_and_no_response_goes_to_another_request(one, target, protocol):
    """Each request is answered, or the connection ends after the last response."""
    upgrade = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode()
    following = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"

    answer = one.send(upgrade + following, patience=5)

    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert statuses in ([b"200"], [b"200", b"200"])
    assert (b"Connection: close" in answer) == (len(statuses) == 1)


def test_a_client_that_only_offers_an_upgrade_keeps_its_connection(one):
    """Some clients offer h2c with their first request."""
    upgrade = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with socket.create_connection(("127.0.0.1", one.port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(upgrade)
            answer = connection.recv(2000)
            assert answer.endswith(b"alive\n") and b"Connection: close" not in answer


@pytest.mark.parametrize("target", ["/livez", PICTURE, "/metrics", "/nosuch"])
@pytest.mark.parametrize(
    "body",
    ["Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "Content-Length: 3\r\n\r\nabc"],
)
def test_a_body_that_no_handler_reads_is_not_parsed_as_a_request(one, target, body):
    get = f"GET {target} HTTP/1.1\r\nHost: a\r\n"

    answer = one.send((get + body + get + "Connection: close\r\n\r\n").encode(), patience=5)

    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert len(statuses) == 2 and len(set(statuses)) == 1
