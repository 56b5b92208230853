"""Which images pages of other sites may read: all of a public server, none of one that only this machine reaches."""

import pytest
from multidict import CIMultiDict

from imgserver.settings.schema import HttpSettings, ServerSettings, Settings
from imgserver.web.cors import CrossOriginReads
from tests.running_server import serving

ORIGIN = {"Origin": "https://evil.example"}
PREFLIGHT = {**ORIGIN, "Access-Control-Request-Method": "GET"}
FORWARDED = {"X-Forwarded-For": "192.0.2.1"}
READABLE = ("Access-Control-Allow-Origin", "Timing-Allow-Origin")
PICTURE = "/img/w_40/cat.png"


@pytest.mark.parametrize(
    ("cors", "host", "directly", "through_a_proxy"),
    [
        ("auto", "0.0.0.0", True, True),
        ("auto", "192.0.2.1", True, True),
        ("auto", "images.example", True, True),
        ("auto", "127.0.0.1", False, True),
        ("auto", "127.0.0.2", False, True),
        ("auto", "::1", False, True),
        ("auto", "localhost", False, True),
        ("on", "127.0.0.1", True, True),
        ("off", "0.0.0.0", False, False),
        ("off", "127.0.0.1", False, False),
    ],
)
def test_other_sites_may_read_where_the_server_is_public(cors, host, directly, through_a_proxy):
    rule = CrossOriginReads(Settings(server=ServerSettings(host=host), http=HttpSettings(cors=cors)))

    assert rule.allows(CIMultiDict(ORIGIN)) is directly
    assert rule.allows(CIMultiDict(FORWARDED)) is through_a_proxy
    assert bool(rule.lines(CIMultiDict(ORIGIN))) is directly


@pytest.fixture(scope="module")
def local():
    with serving(workers_count=1) as running:
        yield running


@pytest.fixture(scope="module")
def public():
    with serving(workers_count=1, server_host="0.0.0.0") as running:
        yield running


# The first is a miss and the second a hit on the fast path; then a 304, an error, and the framework's way.
REQUESTS = [
    ("GET", PICTURE, {}, 200),
    ("GET", PICTURE, {}, 200),
    ("HEAD", PICTURE, {}, 200),
    ("GET", PICTURE, {"If-None-Match": "*"}, 304),
    ("GET", PICTURE, {"Range": "bytes=0-9"}, 206),
    ("GET", PICTURE, {"Range": "bytes=9999999-"}, 416),
    ("GET", "/img/w_x/cat.png", {}, 400),
    ("GET", "/img/w_40/absent.png", {}, 404),
    ("OPTIONS", PICTURE, PREFLIGHT, 204),
]


@pytest.mark.parametrize(("method", "target", "headers", "status"), REQUESTS)
def test_no_page_of_another_site_reads_from_a_loopback_server(local, method, target, headers, status):
    answer = local.ask(target, method, {**ORIGIN, **headers})

    assert answer.status == status
    assert [answer.headers[name] for name in READABLE] == [None, None]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.parametrize(("method", "target", "headers", "status"), REQUESTS)
def test_every_page_reads_what_a_proxy_in_front_of_a_loopback_server_serves(local, method, target, headers, status):
    answer = local.ask(target, method, {**FORWARDED, **headers})

    assert answer.status == status
    assert [answer.headers.get_all(name) for name in READABLE] == [["*"], ["*"]]


@pytest.mark.parametrize(("method", "target", "headers", "status"), REQUESTS)
def test_every_page_reads_from_a_public_server(public, method, target, headers, status):
    answer = public.ask(target, method, headers)

    assert answer.status == status
    assert [answer.headers.get_all(name) for name in READABLE] == [["*"], ["*"]]


def test_other_routes_are_readable_by_no_other_site(public):
    for target in ("/api/health", "/api/image/health", "/metrics", "/livez", "/absent"):
        assert public.ask(target, headers=ORIGIN).headers["Access-Control-Allow-Origin"] is None
