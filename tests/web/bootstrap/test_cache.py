"""The cache of real servers with a real Redis: restarts, replicas, purges, stale pictures."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector

from imgserver.cache.cache_tags import tag_group
from imgserver.runtime.files import TEMPORARY_SUFFIX
from tests.redis_server import RedisServer, running
from tests.running_server import SAMPLES, Answer, ServerProcess, serving, wait_until

KEY = "a key of sixteen characters"


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def purge(server: ServerProcess, **selector: object) -> Answer:
    return server.post("/api/admin/purge", selector, key=KEY)


def records(folder: Path) -> list[Path]:
    """The files of a disk tier. /metrics counts an entry before its file is written, so that the limit always holds."""
    return [path for path in folder.glob("??/??/*") if path.suffix != TEMPORARY_SUFFIX]


def state(answer: Answer) -> str:
    return answer.cache_status


def test_a_picture_survives_a_restart_on_disk(tmp_path):
    settings = {"workers_count": 1, "disk_path": tmp_path}
    with serving(**settings) as server:
        first = server.ask("/img/w_120/cat.png")
        wait_until(lambda: len(records(tmp_path)) == 1, "it is on disk")
    with serving(**settings) as server:
        second = server.ask("/img/w_120/cat.png")
        renders = server.image_health()["workers"]["renders"]

    assert (state(second), renders) == ("imgserver; hit", 0)
    assert second.body == first.body


def test_a_corrupt_file_is_counted_and_rendered_again(tmp_path):
    settings = {"workers_count": 1, "disk_path": tmp_path, "cache_memory_bytes": 0}
    with serving(**settings) as server:
        first = server.ask("/img/w_121/cat.png")
        wait_until(lambda: len(records(tmp_path)) == 1, "it is on disk")
        (record,) = records(tmp_path)
        data = bytearray(record.read_bytes())
        data[-100] ^= 1
        record.write_bytes(data)
        second = server.ask("/img/w_121/cat.png")
        text = server.ask("/metrics").body.decode()

    assert state(second) == "imgserver; fwd=uri-miss; stored"
    assert second.body == first.body
    assert "imgserver_cache_corrupt_total{" in text


def test_a_thousand_clients_of_two_servers_on_one_redis_cause_one_render(redis):
    """Concurrently, with the default settings: the load must not open the circuit breaker of Redis."""
    settings = {"workers_count": 1, "disk_limit_bytes": 0, "redis_url": redis.url, "redis_namespace": "once"}
    with serving(**settings) as one, serving(**settings) as two:
        wait_until(lambda: both_up(one, two), "both are connected")
        for width in (900, 901, 902):
            answers = asyncio.run(asked_at_once([one, two], f"/img/w_{width},f_webp/creek.jpg", times=500))

            assert Counter(status for status, _ in answers) == {200: 1000}
            assert len({body for _, body in answers}) == 1
        renders = sum(server.image_health()["workers"]["renders"] for server in (one, two))
        counted = sum(server.metric("imgserver_lookups_total", outcome="rendered") for server in (one, two))
        timeouts = sum(server.image_health()["cache"]["redis_client"]["timeouts"] for server in (one, two))

    # If Redis gets no CPU for 50 ms, the lock is lost. A second render is harmless.
    assert renders == 3 or (timeouts > 0 and renders <= 6)
    # A request that waited for the render of the other server counts as joined.
    assert counted == renders


async def asked_at_once(servers: list[ServerProcess], target: str, *, times: int) -> list[tuple[int, bytes]]:
    async def ask(session: ClientSession, server: ServerProcess) -> tuple[int, bytes]:
        async with session.get(f"http://127.0.0.1:{server.port}{target}") as answer:
            return answer.status, await answer.read()

    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        return await asyncio.gather(*(ask(session, server) for server in servers for _ in range(times)))


def both_up(*servers: ServerProcess) -> bool:
    return all(server.metric("imgserver_redis_up") == 1 for server in servers)


@pytest.mark.parametrize(
    ("selector", "gone", "cached"),
    [
        ({"url": "/img/w_130/cat.png"}, ["/img/w_130/cat.png"], ["/img/w_131/cat.png", "/img/w_130/coffee.png"]),
        ({"source": "cat.png"}, ["/img/w_130/cat.png", "/img/w_131/cat.png"], ["/img/w_130/coffee.png"]),
        ({"tag": "cats"}, ["/img/w_130/cat.png", "/img/w_131/cat.png"], ["/img/w_130/coffee.png"]),
        ({"group": tag_group("cats")}, ["/img/w_130/cat.png"], ["/img/w_130/coffee.png"]),
        ({"prefix": ""}, ["/img/w_130/cat.png", "/img/w_130/coffee.png"], []),
        ({"all": True}, ["/img/w_130/cat.png", "/img/w_130/coffee.png"], []),
    ],
)
def test_a_purge_reaches_every_server_and_nothing_else(redis, selector, gone, cached):
    settings = {
        "workers_count": 1,
        "disk_limit_bytes": 0,
        "redis_url": redis.url,
        "redis_namespace": f"purge-{next(iter(selector))}",
        "admin_key": KEY,
        "tags_cats": "cat*",
        "tags_drinks": "coffee*",
    }
    redis.admin.set("stranger", "stays")
    with serving(**settings) as one, serving(**settings) as two:
        wait_until(lambda: both_up(one, two), "both are connected")
        for target in [*gone, *cached]:
            one.ask(target)
            wait_until(lambda: state(two.ask(target)) == "imgserver; hit", "the other has it too")  # noqa: B023
        answer = purge(one, **selector)

        assert answer.status == 200
        assert answer.json()["removed"]["redis"] == len(gone)
        in_memory = lambda: two.metric("imgserver_cache_entries", tier="memory")  # noqa: E731
        wait_until(lambda: in_memory() == len(cached), "the other has dropped its copies", seconds=1)
        assert all(state(one.ask(target)) != "imgserver; hit" for target in gone)
        assert [state(one.ask(target)) for target in cached] == ["imgserver; hit"] * len(cached)
    assert redis.admin.get("stranger") == b"stays"


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [
        ({"all": True}, "a wrong key of some length", 401),
        ({"all": True}, None, 401),
        ({"all": False}, KEY, 400),
        ({"everything": True}, KEY, 400),
        ({"url": "/img/w_x/cat.png"}, KEY, 400),
        ({"url": "a", "all": True}, KEY, 400),
        ("no object", KEY, 400),
        ({"tag": "unknown"}, KEY, 400),
        ({"group": "all"}, KEY, 400),
    ],
)
def test_a_purge_without_the_key_or_one_selector_is_refused(body, key, status):
    with serving(workers_count=1, admin_key=KEY) as server:
        server.ask("/img/w_50/cat.png")

        assert server.post("/api/admin/purge", body, key=key).status == status
        assert state(server.ask("/img/w_50/cat.png")) == "imgserver; hit"


def test_a_purge_by_tag_reaches_pictures_cached_before_the_rule(redis):
    settings = {
        "workers_count": 1,
        "disk_limit_bytes": 0,
        "redis_url": redis.url,
        "redis_namespace": "before-the-rule",
        "admin_key": KEY,
    }
    with serving(**settings) as one, serving(**settings, tags_cats="cat*") as two:
        wait_until(lambda: both_up(one, two), "both are connected")
        one.ask("/img/w_130/cat.png")
        wait_until(lambda: redis.admin.keys("before-the-rule:*"), "it is in Redis")

        assert "hit" not in state(two.ask("/img/w_130/cat.png"))
        assert state(two.ask("/img/w_130/cat.png")) == "imgserver; hit"
        assert purge(two, tag="cats").json()["removed"]["memory"] == 1
        assert "hit" not in state(two.ask("/img/w_130/cat.png"))


def test_without_a_key_there_is_no_admin_api(server: ServerProcess):
    assert server.post("/api/admin/purge", {"all": True}, key=KEY).status == 404


def test_a_stale_picture_is_served_while_revalidating_in_the_background(tmp_path: Path):
    shutil.copy(SAMPLES / "cat.png", tmp_path)
    with serving(tmp_path, workers_count=1, cache_ttl_seconds=1) as server:
        server.ask("/img/w_140/cat.png")
        seen: list[str] = []
        wait_until(
            lambda: note(seen, state(server.ask("/img/w_140/cat.png"))) == "imgserver; hit; detail=stale", "stale"
        )
        wait_until(lambda: server.image_health()["workers"]["renders"] >= 2, "it is made anew behind")

    assert "imgserver; fwd=uri-miss; stored" not in seen


def note(seen: list[str], one: str) -> str:
    seen.append(one)
    return one


def test_killing_redis_under_load_fails_no_request(tmp_path):
    with running(tmp_path) as own:
        settings = {"workers_count": 1, "disk_limit_bytes": 0, "redis_url": own.url, "cache_memory_bytes": 0}
        with serving(**settings) as server:
            wait_until(lambda: both_up(server), "it is connected")
            targets = [f"/img/w_{60 + number % 20}/cat.png" for number in range(200)]
            with ThreadPoolExecutor(16) as pool:
                asked = [pool.submit(server.ask, target) for target in targets[:100]]
                own.kill()
                asked += [pool.submit(server.ask, target) for target in targets[100:]]
                answers = [one.result() for one in asked]
            health = server.ask("/api/health")

    assert {answer.status for answer in answers} == {200}
    assert (health.status, health.json()["status"]) == (200, "degraded")
