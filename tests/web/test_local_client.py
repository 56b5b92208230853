"""Which requests count as those of this machine: the rule, and what it protects on a loopback server."""

from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from imgserver.web.local_client import is_local_client
from tests.multipart_forms import CONTENT_TYPE, form, picture
from tests.running_server import SAMPLES, serving

FORM = form(picture((SAMPLES / "cat.png").read_bytes()))
LOCAL = {"Host": "localhost:8080"}


def request_from(address: str, headers):
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (address, 1) if name == "peername" else default
    return make_mocked_request("POST", "/", headers=headers, transport=transport)


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_a_local_client_has_a_loopback_address(address, is_local):
    assert is_local_client(request_from(address, LOCAL)) is is_local


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("LocalHost:8080", True),
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("127.1.2.3:8080", True),
        ("[::1]", True),
        ("[::1]:8080", True),
        ("", False),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("pictures.localhost", False),
        ("localhost.", False),
        ("imgserver:8080", False),
        ("192.168.1.5:8080", False),
        ("0.0.0.0:8080", False),
        ("127.1", False),
        ("2130706433", False),
        ("127.0.0.999", False),
        ("[::]:8080", False),
        ("[2001:db8::1]", False),
        ("::1", False),
        ("localhost:8080@evil.example", False),
        ("localhost, evil.example", False),
    ],
)
def test_a_local_request_names_this_machine_as_no_dns_server_can(host, is_local):
    assert is_local_client(request_from("127.0.0.1", {"Host": host})) is is_local


@pytest.mark.parametrize("headers", [{}, [("Host", "localhost"), ("Host", "evil.example")]])
def test_a_request_without_exactly_one_host_is_not_local(headers):
    assert not is_local_client(request_from("127.0.0.1", headers))


@pytest.mark.parametrize(
    "name",
    [
        "Forwarded",
        "forwarded",
        "X-Forwarded-For",
        "x-forwarded-host",
        "X-Forwarded-Proto",
        "X-Forwarded-Server",
        "X-Real-IP",
        "Via",
        "CF-Connecting-IP",
        "CF-Ray",
        "cf-visitor",
        "True-Client-IP",
        "Fastly-Client-IP",
        "CDN-Loop",
        "X-Client-IP",
        "X-Amzn-Trace-Id",
    ],
)
@pytest.mark.parametrize("value", ["192.0.2.1", "127.0.0.1", ""])
def test_a_forwarded_request_is_not_local(name, value):
    assert not is_local_client(request_from("127.0.0.1", {**LOCAL, name: value}))


@pytest.mark.parametrize(
    ("headers", "is_local"),
    [
        ({"Origin": "http://localhost:8080"}, True),
        ({"Origin": "https://localhost:8080"}, True),
        ({"Origin": "HTTP://LOCALHOST:8080"}, True),
        ({"Origin": "http://localhost:3000"}, False),
        ({"Origin": "http://localhost"}, False),
        ({"Origin": "http://127.0.0.1:8080"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "file://"}, False),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8080"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "Cross-Site"}, False),
        ({"Sec-Fetch-Site": "anything"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, False),
        ({"Sec-Fetch-Site": "none", "Origin": "null"}, False),
    ],
)
def test_a_request_of_another_page_is_not_local(headers, is_local):
    assert is_local_client(request_from("127.0.0.1", {**LOCAL, **headers})) is is_local


@pytest.mark.parametrize("second", ["https://evil.example", "null"])
def test_a_second_origin_is_read_too(second):
    lines = [("Host", "localhost"), ("Origin", "http://localhost"), ("Origin", second)]

    assert not is_local_client(request_from("127.0.0.1", lines))


def test_the_default_port_may_be_left_out():
    assert is_local_client(request_from("127.0.0.1", {"Host": "localhost:80", "Origin": "http://localhost"}))
    assert is_local_client(request_from("127.0.0.1", {"Host": "localhost", "Origin": "https://localhost:443"}))


# On a server that listens on loopback

# What a page of another site causes a browser on this machine to send, and what proxies send.
FOREIGN = {
    "rebound": {"Host": "evil.example"},
    "cross-site": {"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "same-site": {"Host": "localhost", "Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
    "sandboxed": {"Host": "localhost", "Origin": "null"},
    "proxied": {"Host": "localhost", "X-Forwarded-Proto": "https"},
}


@pytest.fixture(scope="module")
def server():
    with serving(workers_count=1, http_metrics_public="false") as running:
        yield running


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_the_gallery_metrics_details_and_uploads_are_for_this_machine_only(server, headers):
    upload = {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(FORM))}

    assert server.ask("/", headers=headers).status == 404
    assert b"cat.png" not in server.ask("/", headers=headers).body
    assert server.ask("/metrics", headers=headers).status == 404
    assert "workers" not in server.ask("/api/image/health", headers=headers).json()
    assert server.ask("/api/image/optimize", "POST", {**headers, **upload}, FORM).status == 401


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080"])
def test_this_machine_itself_reaches_them_all(server, host):
    upload = {"Host": host, "Content-Type": CONTENT_TYPE, "Content-Length": str(len(FORM))}

    assert b"cat.png" in server.ask("/", headers={"Host": host}).body
    assert server.ask("/metrics", headers={"Host": host}).status == 200
    assert "workers" in server.ask("/api/image/health", headers={"Host": host}).json()
    assert server.ask("/api/image/optimize?w=20", "POST", upload, FORM).status == 200
