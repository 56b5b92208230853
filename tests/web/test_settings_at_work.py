"""The effects of server, HTTP and source settings on a running server; others are tested with their component."""

import http.client
import shutil
import signal
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from click.testing import CliRunner

from imgserver.cli import main
from imgserver.errors import Unauthorized
from imgserver.security.api_keys import ApiKeys, ApiKeySettings, digest_of, new_key
from imgserver.settings.schema import ServerSettings
from imgserver.web.auth import Authenticator
from imgserver.web.gallery import is_enabled
from imgserver.web.health import _restricted
from tests.running_server import SAMPLES, ServerProcess, serving, wait_until


@pytest.fixture(scope="module")
def tuned():
    with serving(
        workers_count=1,
        server_keepalive_timeout_seconds=0.3,
        server_gallery="on",
        http_max_age_seconds=7,
        http_stale_while_revalidate_seconds=0,
        http_stale_if_error_seconds=9,
        cache_memory_bytes=0,
        disk_limit_bytes=0,
        limits_output_side=100,
        log_level="warning",
    ) as running:
        yield running


def test_the_max_age_is_sent_to_caches(tuned: ServerProcess):
    assert tuned.ask("/img/w_50/cat.png").headers["Cache-Control"] == "max-age=7, stale-if-error=9"


def test_the_limits_apply_in_workers(tuned):
    assert tuned.ask("/img/w_101/cat.png").json()["type"] == "urn:imgserver:error:output-over-limit"


def test_without_cache_tiers_no_response_is_a_hit(tuned):
    for _ in range(2):
        assert "hit" not in tuned.ask("/img/w_40/cat.png").headers["Cache-Status"]


def test_an_idle_connection_is_closed_after_the_keepalive_timeout(tuned):
    connection = http.client.HTTPConnection("127.0.0.1", tuned.port, timeout=10)
    try:
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b"alive\n"
        assert connection.sock.recv(1) == b""
    finally:
        connection.close()


def test_requests_are_not_logged_at_a_higher_level(tuned):
    tuned.ask("/img/w_30/cat.png")

    assert [event for event in tuned.events() if event["event"] in ("request", "worker.started")] == []


def test_draining_ends_after_drain_seconds_even_if_a_request_hangs():
    with serving(workers_count=1, server_drain_seconds=0.2, queue_deadline_seconds=60) as server:
        for worker in server.workers():
            worker.suspend()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/img/w_60/cat.png")
        wait_until(lambda: server.image_health()["workers"]["busy"] == 1, "the worker is busy")
        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(timeout=10) == 0
        connection.close()


@pytest.mark.parametrize(
    ("gallery", "host", "is_shown"),
    [
        ("auto", "127.0.0.1", True),
        ("auto", "::1", True),
        ("auto", "0.0.0.0", False),
        ("on", "0.0.0.0", True),
        ("off", "127.0.0.1", False),
    ],
)
def test_the_automatic_gallery_is_shown_on_loopback_addresses_only(gallery, host, is_shown):
    assert is_enabled(ServerSettings(host=host, gallery=gallery)) is is_shown


@pytest.mark.parametrize(("peer", "is_shown"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False)])
async def test_private_metrics_are_served_to_this_machine_only(peer, is_shown):
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="metrics")

    transport = Mock()
    transport.get_extra_info = Mock(side_effect=lambda name, default=None: (peer, 1) if name == "peername" else default)
    request = make_mocked_request("GET", "/metrics", headers={"Host": "localhost"}, transport=transport)

    if is_shown:
        assert (await _restricted(page, Authenticator(ApiKeys({}), Mock()))(request)).text == "metrics"
    else:
        with pytest.raises(web.HTTPNotFound):
            await _restricted(page, Authenticator(ApiKeys({}), Mock()))(request)


async def test_a_key_of_scope_metrics_opens_private_metrics_to_other_machines():
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="metrics")

    key = new_key("scraper")
    authenticator = Authenticator(ApiKeys({"scraper": ApiKeySettings("metrics", digest_of(key))}), Mock())
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: ("192.0.2.1", 1) if name == "peername" else default

    def ask(token: str) -> web.Request:
        return make_mocked_request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"}, transport=transport)

    assert (await _restricted(page, authenticator)(ask(key))).text == "metrics"
    with pytest.raises(Unauthorized):
        await _restricted(page, authenticator)(ask("another"))


def test_named_sources_are_served_and_purged_by_name(tmp_path):
    for folder, sample in (("photos", "cat.png"), ("wares", "coffee.png")):
        (tmp_path / folder).mkdir()
        shutil.copy(SAMPLES / sample, tmp_path / folder / "one.png")
    settings = {"workers_count": 1, "sources_shop_root": tmp_path / "wares", "admin_key": "a key of sixteen characters"}
    with serving(tmp_path / "photos", **settings) as server:
        ours, wares = server.ask("/img/w_40/one.png"), server.ask("/img/w_40/shop/one.png")
        purged = server.post("/api/admin/purge", {"prefix": "shop"}, key="a key of sixteen characters").json()
        states = [server.ask(target).cache_status for target in ("/img/w_40/one.png", "/img/w_40/shop/one.png")]

    assert (ours.status, wares.status) == (200, 200)
    assert ours.body != wares.body
    assert purged["removed"]["memory"] == 1
    assert [state.partition(";")[2].strip() for state in states] == ["hit", "fwd=uri-miss; stored"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"IMGSERVER_SOURCES_TEXT_ROOT": "."}, "text"),
        ({"IMGSERVER_SOURCES_PHOTOS_ROOT": "."}, "two sources have the name 'photos'"),
        ({"IMGSERVER_SOURCES_SHOP_ROOT": "/nowhere"}, "/nowhere is not a folder"),
    ],
)
def test_an_unusable_source_stops_the_server_at_its_start(variables, message):
    result = CliRunner().invoke(main, ["serve", str(SAMPLES), "--port", "0"], env=variables)

    assert result.exit_code == 1
    assert message in result.stderr
