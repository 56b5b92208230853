"""A purge during a render: a later request never gets the picture of the old bytes, from any tier."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.redis_server import running
from tests.running_server import SAMPLES, ServerProcess, serving, wait_until

KEY = "a key of sixteen characters"
SETTINGS = {"workers_count": 2, "admin_key": KEY}
PURGES = {
    "url": {"url": "/img/w_90/url/a.jpg"},
    "source": {"source": "source/a.jpg"},
    "prefix": {"prefix": "prefix/"},
    "all": {"all": True},
}


@pytest.fixture
def photos(tmp_path) -> Path:
    for name in PURGES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(SAMPLES / "dogs.jpg", tmp_path / "photos" / name / "a.jpg")
    return tmp_path / "photos"


def test_a_purge_during_a_render_wins_in_every_tier(photos, tmp_path):
    """With Redis, one render per key runs at a time: the later request waits for the lock, then renders again."""
    disk, no_disk = {"disk_path": tmp_path / "disk"}, {"disk_limit_bytes": 0, "cache_memory_bytes": 0}
    with running(tmp_path) as redis:
        with serving(photos, redis_url=redis.url, **SETTINGS, **disk) as server:
            wait_until(lambda: server.metric("imgserver_redis_up") == 1, "it is connected")
            news = all_purged_in_flight(server, photos, lambda: concurrent_requests(server) == 2)
        with serving(photos, redis_url=redis.url, **SETTINGS, **no_disk) as server:
            wait_until(lambda: server.metric("imgserver_redis_up") == 1, "it is connected")
            assert (bodies(server), hits(server, "redis")) == (news, len(PURGES))
    with serving(photos, **SETTINGS, **disk) as server:
        assert (bodies(server), hits(server, "disk")) == (news, len(PURGES))


def test_of_two_concurrent_renders_the_later_one_is_cached(photos, tmp_path):
    """Without Redis. Either render may end last."""
    with serving(photos, disk_path=tmp_path / "disk", **SETTINGS) as server:
        news = all_purged_in_flight(server, photos, lambda: busy(server) == 2)
    with serving(photos, disk_path=tmp_path / "disk", **SETTINGS) as server:
        assert (bodies(server), hits(server, "disk")) == (news, len(PURGES))


def all_purged_in_flight(server: ServerProcess, photos: Path, both: Callable[[], bool]) -> dict[str, bytes]:
    """The bodies that requests after the purges got."""
    made = {name: purged_in_flight(server, photos, name, both) for name in PURGES}
    news = {name: new for name, (_, new) in made.items()}
    assert all(old != new for old, new in made.values())
    assert bodies(server) == news
    assert server.metric("imgserver_cache_dropped_writes_total", tier="all", reason="purged") == len(PURGES)
    return news


def purged_in_flight(server: ServerProcess, photos: Path, name: str, both: Callable[[], bool]) -> tuple[bytes, bytes]:
    """The bodies of a request before the purge and of one after it, both in flight.

    The worker of the first one has opened the old file and is stopped until `both` holds.
    """
    photo = photos / name / "a.jpg"
    for worker in server.workers():
        worker.suspend()
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(server.ask, target(name))
        wait_until(lambda: busy(server) == 1, "the old bytes are opened")
        shutil.copy(SAMPLES / "autumn.jpg", photo.with_suffix(".new"))
        photo.with_suffix(".new").replace(photo)
        assert server.post("/api/admin/purge", PURGES[name], key=KEY).status == 200
        after = pool.submit(server.ask, target(name))
        wait_until(both, "both are in flight")
        for worker in server.workers():
            worker.resume()
        answers = before.result(), after.result()
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[1].headers["Cache-Status"] == "imgserver; fwd=uri-miss; stored"
    return answers[0].body, answers[1].body


def bodies(server: ServerProcess) -> dict[str, bytes]:
    return {name: server.ask(target(name)).body for name in PURGES}


def target(name: str) -> str:
    return f"/img/w_90/{name}/a.jpg"


def busy(server: ServerProcess) -> int:
    return int(server.image_health()["workers"]["busy"])


def concurrent_requests(server: ServerProcess) -> float:
    """Not counting the request for /metrics itself."""
    return server.metric("imgserver_http_requests_in_progress") - 1


def hits(server: ServerProcess, tier: str) -> float:
    return server.metric("imgserver_cache_requests_total", tier=tier, result="hit")
