"""Redis over TLS: certificates are verified; a refused certificate counts as an absent Redis."""

import asyncio
import ssl
import time

import pytest
import trustme

from imgserver.cache.redis.client import RedisClient, RedisSettings
from imgserver.cache.redis.tier import RedisTier
from imgserver.testing import make_rendition
from tests.polling import eventually
from tests.running_server import serving, wait_until
from tests.tls import can_tls, running_with_tls

KEY = "1/a/b"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module", params=["its-own-tls", "tls-in-front"])
def tls_redis(request, authority, tmp_path_factory):
    natively = request.param == "its-own-tls"
    if natively and not can_tls():
        pytest.skip("this redis-server was built without TLS (Debian package redis-server has it)")
    with running_with_tls(tmp_path_factory.mktemp("r"), authority, host="127.0.0.1", natively=natively) as found:
        yield found


async def outcome(url: str, **settings) -> tuple[bool, bool, dict[str, int]]:
    """Whether a record was returned, whether the client is connected, and its faults."""
    client = RedisClient(RedisSettings(url=url, timeout_seconds=0.5, **settings))
    await client.start()
    try:
        await eventually(lambda: client.connected or client.statistics().faults)
        cache = RedisTier(client)
        await cache.put(KEY, make_rendition())
        return await cache.get(KEY) == make_rendition(), client.connected, dict(client.statistics().faults)
    finally:
        await client.close()


async def test_records_go_through_tls(tls_redis, ca_file):
    server, port = tls_redis

    assert await outcome(f"rediss://127.0.0.1:{port}", ca_file=ca_file) == (True, True, {})
    assert server.admin.exists(f"imgserver:{KEY}")


async def test_an_unknown_authority_is_refused_and_logged(tls_redis, caplog):
    _, port = tls_redis
    found, connected, faults = await outcome(f"rediss://127.0.0.1:{port}")

    assert (found, connected) == (False, False)
    assert set(faults) == {"certificate"}
    failed = [record for record in caplog.records if record.message == "redis.probe_failed"]
    assert [record.commands for record in failed].count("read") == 1
    assert all("certificate verify failed" in record.error for record in failed)


async def test_a_certificate_for_another_host_is_refused(tls_redis, ca_file):
    _, port = tls_redis
    found, connected, faults = await outcome(f"rediss://localhost:{port}", ca_file=ca_file)

    assert (found, connected, set(faults)) == (False, False, {"certificate"})


async def test_plain_text_to_a_tls_port_is_a_miss(tls_redis):
    _, port = tls_redis

    assert (await outcome(f"redis://127.0.0.1:{port}"))[:2] == (False, False)


async def test_connections_share_one_tls_context(tls_redis, ca_file, monkeypatch):
    """Reading the CA certificates blocks the event loop."""
    _, port = tls_redis
    client = RedisClient(RedisSettings(url=f"rediss://127.0.0.1:{port}", ca_file=ca_file, timeout_seconds=2))
    monkeypatch.setattr(ssl, "create_default_context", lambda: pytest.fail("read again"))
    await client.start()
    await eventually(lambda: client.connected)
    cache = RedisTier(client)
    await asyncio.gather(*(cache.get(KEY) for _ in range(20)))
    statistics = client.statistics()
    await client.close()

    assert sum(statistics.connections.values()) > 1
    assert statistics.faults == {}


@pytest.mark.parametrize(
    ("url", "ca_file", "words"),
    [
        ("rediss://h", "/nowhere/ca.pem", "redis.ca_file: TLS cannot be set up"),
        ("rediss://h", __file__, "redis.ca_file: TLS cannot be set up"),
        ("rediss://h?unknown=1", "/nowhere/ca.pem", "redis.url or redis.ca_file: TLS cannot be set up"),
        ("redis://h", "/nowhere/ca.pem", "must begin with rediss://"),
    ],
    ids=["absent", "no-certificates", "unknown-option", "no-tls"],
)
def test_an_unusable_ca_file_fails_the_start(url, ca_file, words):
    with pytest.raises(ValueError, match=words):
        RedisClient(RedisSettings(url=url, ca_file=ca_file))


def test_a_server_caches_in_redis_over_tls(tls_redis, ca_file):
    server, port = tls_redis
    settings = {"redis_url": f"rediss://127.0.0.1:{port}", "redis_namespace": "whole", "disk_limit_bytes": 0}
    with serving(workers_count=1, redis_ca_file=ca_file, **settings) as first:
        wait_until(lambda: first.metric("imgserver_redis_up") == 1, "it is connected")
        first.ask("/img/w_40/cat.png")
        wait_until(lambda: server.admin.keys("whole:*/*"), "it is written")
    with serving(workers_count=1, **settings) as untrusting:
        begun = time.monotonic()
        answers = [untrusting.ask(f"/img/w_{width}/cat.png") for width in range(40, 50)]
        seconds = time.monotonic() - begun
        breaker, up = (untrusting.metric(name, **labels) for name, labels in BREAKER)

    assert [answer.status for answer in answers] == [200] * 10
    assert "hit" not in answers[0].headers["Cache-Status"]
    assert (breaker, up) == (1, 0)
    assert seconds < 5


BREAKER = (("imgserver_redis_breaker_state", {"side": "read"}), ("imgserver_redis_up", {}))
