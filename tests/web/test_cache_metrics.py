"""The metrics of the cache, on a real server with all three tiers."""

from tests.redis_server import running
from tests.running_server import ServerProcess, serving, wait_until

RESULTS = ("hit", "miss", "stale", "error", "bypass")


def results(server: ServerProcess, tier: str) -> dict[str, float]:
    found = {name: server.metric("imgserver_cache_requests_total", tier=tier, result=name) for name in RESULTS}
    return {name: count for name, count in found.items() if count}


def test_lookups_add_up_in_every_tier_while_redis_is_away(tmp_path):
    with running(tmp_path) as redis:
        settings = {"redis_url": redis.url, "disk_path": tmp_path / "cache", "cache_memory_item_bytes": 2_000}
        with serving(workers_count=1, **settings) as server:
            wait_until(lambda: server.metric("imgserver_redis_up") == 1, "it is connected")
            for target in ("/img/w_10/cat.png", "/img/w_300/cat.png"):
                for _ in range(3):
                    server.ask(target)
                    wait_until(lambda: server.image_health()["cache"]["pending_writes"] == 0, "it is written")
            redis.kill()
            for width in range(20, 40):
                server.ask(f"/img/w_{width}/cat.png")
            memory, disk, after = (results(server, tier) for tier in ("memory", "disk", "redis"))
            health = server.image_health()["cache"]["tiers"]

    assert memory == {"hit": 2, "miss": 24}
    assert disk == {"hit": 2, "miss": 22}
    # Two lookups before the kill and twenty after it: a few of those tried Redis, the others met an open breaker.
    assert sum(after.values()) == 22
    assert after["miss"] == 2
    assert 1 <= after["error"] <= 10
    assert after["bypass"] >= 10
    assert (health["redis"]["errors"], health["redis"]["bypassed"]) == (after["error"], after["bypass"])


def test_sizes_free_space_and_connections_are_exported(tmp_path):
    with running(tmp_path) as redis, serving(workers_count=1, redis_url=redis.url) as server:
        wait_until(lambda: server.metric("imgserver_redis_up") == 1, "it is connected")
        length = len(server.ask("/img/w_45/cat.png").body)
        wait_until(lambda: server.metric("imgserver_cache_disk_size_bytes") > 0, "the disk is measured")
        free, size = (server.metric(f"imgserver_cache_disk_{kind}_bytes") for kind in ("free", "size"))

        assert server.metric("imgserver_cache_value_bytes_count") == 1
        assert server.metric("imgserver_cache_value_bytes_sum") == length
        assert 0 < free < size
        connections = [server.metric("imgserver_redis_pool_connections", state=state) for state in ("idle", "used")]
        assert 1 <= sum(connections) <= 16


def test_every_fault_of_a_tier_has_a_series_from_the_start(tmp_path):
    with running(tmp_path) as redis, serving(workers_count=1, redis_url=redis.url, disk_path=tmp_path / "d") as server:
        text = server.ask("/metrics").body.decode()

    for tier, corrupt, dropped in (("disk", "checksum", "paused"), ("redis", "type", "error")):
        assert f'imgserver_cache_corrupt_total{{reason="{corrupt}",tier="{tier}"}} 0.0' in text
        assert f'imgserver_cache_dropped_writes_total{{reason="{dropped}",tier="{tier}"}} 0.0' in text


def test_without_disk_and_redis_their_series_are_absent():
    with serving(workers_count=1, disk_limit_bytes=0) as server:
        text = server.ask("/metrics").body.decode()

    assert "\nimgserver_cache_disk_" not in text
    assert "\nimgserver_redis_pool_connections{" not in text
    assert 'tier="redis"' not in text
