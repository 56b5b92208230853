"""Requests that reach no handler: answered, counted and logged like all others, after the lists of the policy."""

from collections.abc import Iterator

import pytest

from imgserver.web.malformed import is_host
from tests.running_server import ServerProcess, serving, wait_until

HOST = b"Host: a\r\n"
FIELDS = b"".join(b"X-%d: a\r\n" % number for number in range(200))
# The bytes of a request, and the status of its response.
REFUSED = {
    "an authority for CONNECT": (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 405),
    "a slash for CONNECT": (b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "a path for CONNECT": (b"CONNECT /livez HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "a picture for CONNECT": (b"CONNECT /img/w_40/cat.png HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "TRACE": (b"TRACE /img/w_40/cat.png HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "an unknown path": (b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "another scheme": (b"GET ftp://a/b HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "a bad absolute target": (b"GET http://[::1/b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "an asterisk for GET": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /livez HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "a bad host": (b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /livez\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "bad chunks": (b"POST /nothing HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "a target that is too long": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a field that is too long": (b"GET /livez HTTP/1.1\r\n" + HOST + b"Cookie: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "too many fields": (b"GET /livez HTTP/1.1\r\n" + HOST + FIELDS + b"\r\n", 431),
}


@pytest.fixture(scope="module")
def denying(tmp_path_factory) -> Iterator[ServerProcess]:
    """Denies every client but one that is not this machine."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text("clients:\n  allow: [192.0.2.1]\n")
    with serving(workers_count=1, security_policy=policy) as running:
        yield running


def fields_of(answer: bytes) -> dict[str, str]:
    head, _, _ = answer.partition(b"\r\n\r\n")
    return {name.lower(): value for name, _, value in (row.partition(": ") for row in head.decode().split("\r\n")[1:])}


@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
def test_every_refused_request_is_answered_as_a_problem_counted_and_logged(server: ServerProcess, raw, status):
    answer = server.send(raw, patience=1)
    fields = fields_of(answer)

    assert answer.startswith(b"HTTP/1.%d %d " % (b"HTTP/0.9" not in raw and raw != REFUSED["HTTP/0.9"][0], status))
    assert (fields["server"], fields["content-type"]) == ("imgserver", "application/problem+json")
    assert b"aiohttp" not in answer
    found = f'"request_id":"{fields["x-request-id"]}"'
    wait_until(lambda: found in server.log.read_text(), "it is logged")
    (event,) = [one for one in server.events() if one.get("request_id") == fields["x-request-id"] and "status" in one]
    assert (event["status"], event["remote"]) == (status, "127.0.0.1")


@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
def test_a_denied_client_is_denied_before_anything_else_is_judged(denying, raw, status):
    answer = denying.send(raw.replace(b"/livez", b"/nothing"), patience=1)

    assert answer.split(b" ", 2)[1] == b"403"
    assert b'"reason"' not in answer


def test_malformed_requests_are_counted(server):
    before = server.metric("imgserver_http_malformed_total")
    counted = server.metric("imgserver_http_requests_total", method="other", route="other", status="400")
    server.send(b"nonsense\r\n\r\n", patience=1)
    server.send(b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", patience=1)

    assert server.metric("imgserver_http_malformed_total") == before + 2
    assert server.metric("imgserver_http_requests_total", method="other", route="other", status="400") == counted + 1
    assert server.metric("imgserver_http_requests_total", method="GET", route="other", status="400") >= 1


def test_a_header_that_does_not_end_is_refused_at_64_kib(server):
    answer = server.send(b"GET /livez HTTP/1.1\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 4000) for n in range(30)))

    assert answer.startswith(b"HTTP/1.1 431 ")


def test_the_server_as_a_whole_has_options(server):
    assert server.send(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", patience=1).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("host", ["", "a", "a.example:80", "127.0.0.1", "[::1]", "[::1]:8080", "a_b", "%41", "a:"])
def test_hosts_are_names_and_addresses_with_an_optional_port(host):
    assert is_host(host)


@pytest.mark.parametrize("host", ["a b", "a/b", "u@a", "a:b", "[::1", "::1", "a,b:c", "ä", "a\n", "<a>", "%4", 'a"'])
def test_other_hosts_are_malformed(host):
    assert not is_host(host)
