"""Whole URLs as sources, with a real server: which requests may name which URL.

A signature admits the ports 80 and 443 only, so the origin of these tests listens on port 80 of a loopback address."""

import time
from collections.abc import Iterator

import pytest

from imgserver.dialects.native.source_path import encode_remote
from imgserver.security.signing import Keyring, SigningKey
from tests.running_server import Answer, ServerProcess, serving, wait_until
from tests.sources.origin_server import OriginServer, body, redirect
from tests.threaded_origin import downloads, photo, threaded_origin

KEY, TIED = SigningKey(bytes(range(32))), SigningKey(bytes(range(100, 132)), frozenset({"photos"}))
HOST = "127.0.0.80"
CALM = {"Cache-Control": "max-age=600"}
PHOTO = photo()


@pytest.fixture(scope="module")
def origin() -> Iterator[OriginServer]:
    try:
        with threaded_origin(HOST, port=80) as one:
            yield one
    except PermissionError:
        pytest.skip("port 80 is not for this user: sysctl net.ipv4.ip_unprivileged_port_start=80")


@pytest.fixture(scope="module")
def server(origin) -> Iterator[ServerProcess]:
    with serving(
        workers_count=1,
        disk_limit_bytes=0,
        remote_enabled=True,
        remote_allowed_urls=f"http://{HOST}/open/",
        remote_allowed_networks=f"{HOST}/32",
        signing_keys=f"{KEY.serialize()},{TIED.serialize()}",
    ) as running:
        yield running


def unsigned(path: str, options: str = "w_10") -> str:
    return f"/img/{options}/{encode_remote(f'http://{HOST}{path}')}"


def signed(path: str, options: str = "w_10", key: SigningKey = KEY) -> str:
    rest = unsigned(path, options).removeprefix("/img/")
    # A key that is tied to sources is not valid for a whole URL.
    return f"/img/s--{Keyring((SigningKey(key.secret),)).sign(rest, source='photos')}--/{rest}"


def refusal(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["X-Imgserver-Error"], answer.headers["Cache-Control"]


def test_a_listed_url_is_served_to_everybody_in_all_three_forms(server, origin):
    origin.answers["/open/a.jpg"] = body(PHOTO, **CALM)
    address = f"http://{HOST}/open/a.jpg"

    answers = [
        server.ask(f"/img/w_10/{spelt}")
        for spelt in (address, address.replace(":", "%3A").replace("/", "%2F"), encode_remote(address))
    ]

    assert [one.status for one in answers] == [200, 200, 200]
    assert len({one.headers["ETag"] for one in answers}) == 1
    assert downloads(origin, "/open/a.jpg") == 1


def test_an_unlisted_url_is_refused_audited_and_never_requested(server, origin):
    origin.answers["/other/a.jpg"] = body(PHOTO, **CALM)
    before = server.metric("imgserver_security_events_total", event="source_denied", reason="not_listed")

    assert refusal(server.ask(unsigned("/other/a.jpg"))) == (403, "source-denied", "no-store")

    assert downloads(origin, "/other/a.jpg") == 0
    assert server.metric("imgserver_security_events_total", event="source_denied", reason="not_listed") == before + 1


def test_a_rendition_of_a_signed_request_is_not_served_to_unsigned_ones(server, origin):
    """Neither from the memory tier nor as the response to a conditional request."""
    origin.answers["/closed/a.jpg"] = body(PHOTO, **CALM)
    opened = server.ask(signed("/closed/a.jpg"))
    again = server.ask(signed("/closed/a.jpg"))

    refused = [
        server.ask(unsigned("/closed/a.jpg")),
        server.ask(unsigned("/closed/a.jpg", "w_11")),
        server.ask(unsigned("/closed/a.jpg"), headers={"If-None-Match": opened.headers["ETag"]}),
        server.ask(unsigned("/closed/a.jpg"), "HEAD"),
        server.ask(f"/img/w_10/http://{HOST}/closed/a.jpg"),
        server.ask(signed("/closed/a.jpg").replace("/w_10/", "/w_11/")),
    ]

    assert (opened.status, again.status, again.cache_status) == (200, 200, "imgserver; hit")
    assert {one.status for one in refused} == {403}
    assert downloads(origin, "/closed/a.jpg") == 1
    assert server.ask(signed("/closed/a.jpg")).status == 200


def test_a_key_that_is_tied_to_a_source_signs_no_whole_url(server, origin):
    origin.answers["/closed/b.jpg"] = body(PHOTO, **CALM)

    answer = server.ask(signed("/closed/b.jpg", key=TIED))

    assert refusal(answer)[:2] == (403, "signature-refused")
    assert downloads(origin, "/closed/b.jpg") == 0


def test_a_signed_url_has_a_default_port(server):
    rest = f"w_10/{encode_remote(f'http://{HOST}:8080/a.jpg')}"

    assert server.ask(f"/img/s--{Keyring((KEY,)).sign(rest, source='photos')}--/{rest}").status == 403


def test_neither_signature_nor_list_opens_private_networks(server):
    before = server.metric("imgserver_security_events_total", event="address_blocked", reason="loopback")
    rest = f"w_10/{encode_remote('http://127.0.0.1/a.jpg')}"

    answer = server.ask(f"/img/s--{Keyring((KEY,)).sign(rest, source='photos')}--/{rest}")

    assert refusal(answer)[:2] == (404, "not-found")
    assert server.metric("imgserver_security_events_total", event="address_blocked", reason="loopback") == before + 1


def test_a_redirect_of_a_listed_url_stays_on_the_list(server, origin):
    """Also when a signed request has admitted the target before."""
    origin.answers |= {
        "/closed/c.jpg": body(PHOTO, **CALM),
        "/open/there.jpg": redirect("/closed/c.jpg"),
        "/open/inside.jpg": redirect("http://169.254.169.254/latest/meta-data"),
    }
    assert server.ask(signed("/closed/c.jpg")).status == 200

    assert server.ask(unsigned("/open/there.jpg")).status == 403
    assert server.ask(unsigned("/open/inside.jpg")).status == 403


def test_an_expired_link_is_refused_although_its_rendition_is_cached(server, origin):
    origin.answers["/closed/d.jpg"] = body(PHOTO, **CALM)
    ends = int(time.time()) + 3
    target = signed("/closed/d.jpg", f"exp_{ends}/w_10")
    first = server.ask(target)
    lifetime = int(first.headers["Cache-Control"].split(",")[0].removeprefix("max-age="))

    assert first.status == 200
    assert 0 <= lifetime <= 3
    wait_until(lambda: server.ask(target).status == 410, "it has ended", seconds=6)
    assert server.ask(signed("/closed/d.jpg")).status == 200


def test_whole_urls_are_off_by_default(tmp_path):
    with serving(workers_count=1, disk_limit_bytes=0) as plain:
        assert refusal(plain.ask(unsigned("/open/a.jpg")))[:2] == (403, "source-denied")
