"""The fast path of a whole server process: malformed requests, accounting, idle connections, shutdown."""

import re
import socket
import time

import pytest

from tests.running_server import serving, wait_until
from tests.web.fast_path_server import PICTURE, get
from tests.web.test_connections import MALFORMED


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A server behind a proxy, with short time-outs."""
    policy = tmp_path_factory.mktemp("policy") / "security.yaml"
    policy.write_text("proxies: {networks: [127.0.0.0/8]}\n")
    timeouts = {"server_header_timeout_seconds": 0.5, "server_keepalive_timeout_seconds": 2}
    with serving(workers_count=1, disk_limit_bytes=0, security_policy=policy, **timeouts) as running:
        for _ in range(2):
            running.ask(PICTURE)
        yield running


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_for_what_memory_has_are_refused(strict, raw):
    response = strict.send(raw.replace(b"%s", PICTURE.encode()) + get("/livez"), patience=2)

    assert response.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert response.count(b"HTTP/1.") == 1


def test_each_hit_is_counted_and_logged_once(strict):
    def counts():
        return (
            strict.metric("imgserver_lookups_total", outcome="hit"),
            strict.metric("imgserver_lookups_total", outcome="not_modified"),
            strict.metric("imgserver_cache_requests_total", tier="memory", result="hit"),
            strict.metric("imgserver_http_requests_total", route="image", method="GET", status="200"),
        )

    etag = strict.ask(PICTURE).headers["ETag"]
    before = counts()
    for number in range(20):
        strict.ask(PICTURE, headers={"X-Request-Id": f"hit-{number}", "X-Forwarded-For": "198.51.100.7"})
    strict.ask(PICTURE, headers={"If-None-Match": etag, "X-Request-Id": "unmodified"})

    assert [now - then for now, then in zip(counts(), before, strict=True)] == [20, 1, 21, 20]

    def lines():
        return [one for one in strict.events() if re.fullmatch(r"hit-\d+|unmodified", one.get("request_id", ""))]

    wait_until(lambda: len(lines()) >= 21, "the lines are written")
    assert [line["request_id"] for line in lines()] == [*(f"hit-{number}" for number in range(20)), "unmodified"]
    hit, unmodified = lines()[0], lines()[-1]
    assert (hit["status"], hit["outcome"], hit["target"]) == (200, "hit", PICTURE)
    assert (hit["remote"], unmodified["remote"]) == ("198.51.100.7", "127.0.0.1")
    assert hit["bytes"] > 100
    assert (unmodified["status"], unmodified["outcome"], unmodified["bytes"]) == (304, "not_modified", 0)


def test_a_connection_may_be_idle_after_a_hit_for_the_keep_alive_time(strict):
    """Longer than a header may take."""
    with socket.create_connection(("127.0.0.1", strict.port), timeout=20) as connection:
        connection.sendall(get(PICTURE))
        assert b"200 OK" in connection.recv(65536)
        started = time.monotonic()

        assert connection.recv(1) == b""
        assert time.monotonic() - started > 1.5


def test_a_server_stops_immediately_with_connections_that_only_had_hits():
    with serving(workers_count=1, disk_limit_bytes=0) as server:
        for _ in range(2):
            server.ask(PICTURE)
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(get(PICTURE))
            assert b"200 OK" in connection.recv(65536)
            started = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started < 10
            connection.setblocking(True)
            assert connection.recv(65536) == b""
