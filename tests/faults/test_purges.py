"""Purges while a render is in flight: nobody who asks later gets what was made of the earlier bytes, from any tier."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.redis_server import running
from tests.running_server import SAMPLES, ServerProcess, serving, wait_until

KEY = "a key of sixteen characters"
SETTINGS = {"workers_count": 2, "admin_key": KEY}
WISHES = {
    "url": {"url": "/img/w_90/url/a.jpg"},
    "source": {"source": "source/a.jpg"},
    "prefix": {"prefix": "prefix/"},
    "all": {"all": True},
}


@pytest.fixture
def photos(tmp_path) -> Path:
    for name in WISHES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(SAMPLES / "dogs.jpg", tmp_path / "photos" / name / "a.jpg")
    return tmp_path / "photos"


def test_no_tier_has_earlier_bytes_after_a_purge_during_their_render(photos, tmp_path):
    """Of servers on one Redis one renders at a time, so the later request waits and then has a render of its own."""
    disk, no_disk = {"disk_path": tmp_path / "disk"}, {"disk_limit_bytes": 0, "cache_memory_bytes": 0}
    with running(tmp_path) as redis:
        with serving(photos, redis_url=redis.url, **SETTINGS, **disk) as server:
            wait_until(lambda: server.metric("imgserver_redis_up") == 1, "it is connected")
            news = all_purged_in_flight(server, photos, lambda: asked_at_once(server) == 2)
        with serving(photos, redis_url=redis.url, **SETTINGS, **no_disk) as server:
            wait_until(lambda: server.metric("imgserver_redis_up") == 1, "it is connected")
            assert (bodies(server), hits(server, "redis")) == (news, len(WISHES))
    with serving(photos, **SETTINGS, **disk) as server:
        assert (bodies(server), hits(server, "disk")) == (news, len(WISHES))


def test_two_renders_side_by_side_leave_the_later_one(photos, tmp_path):
    """Without a Redis; which of them ends last is left to chance."""
    with serving(photos, disk_path=tmp_path / "disk", **SETTINGS) as server:
        news = all_purged_in_flight(server, photos, lambda: busy(server) == 2)
    with serving(photos, disk_path=tmp_path / "disk", **SETTINGS) as server:
        assert (bodies(server), hits(server, "disk")) == (news, len(WISHES))


def all_purged_in_flight(server: ServerProcess, photos: Path, both: Callable[[], bool]) -> dict[str, bytes]:
    """What those who asked after their purge got."""
    made = {name: purged_in_flight(server, photos, name, both) for name in WISHES}
    news = {name: new for name, (_, new) in made.items()}
    assert all(old != new for old, new in made.values())
    assert bodies(server) == news
    assert server.metric("imgserver_cache_dropped_writes_total", tier="all", reason="purged") == len(WISHES)
    return news


def purged_in_flight(server: ServerProcess, photos: Path, name: str, both: Callable[[], bool]) -> tuple[bytes, bytes]:
    """The bodies of a request before the purge and of one after it, in flight at the same time: the first one's worker
    has opened the old file, and is stopped until `both`."""
    photo = photos / name / "a.jpg"
    for worker in server.workers():
        worker.suspend()
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(server.ask, target(name))
        wait_until(lambda: busy(server) == 1, "the old bytes are opened")
        shutil.copy(SAMPLES / "autumn.jpg", photo.with_suffix(".new"))
        photo.with_suffix(".new").replace(photo)
        assert server.post("/api/admin/purge", WISHES[name], key=KEY).status == 200
        after = pool.submit(server.ask, target(name))
        wait_until(both, "both are in flight")
        for worker in server.workers():
            worker.resume()
        answers = before.result(), after.result()
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[1].headers["Cache-Status"] == "imgserver; fwd=uri-miss; stored"
    return answers[0].body, answers[1].body


def bodies(server: ServerProcess) -> dict[str, bytes]:
    return {name: server.ask(target(name)).body for name in WISHES}


def target(name: str) -> str:
    return f"/img/w_90/{name}/a.jpg"


def busy(server: ServerProcess) -> int:
    return int(server.image_health()["workers"]["busy"])


def asked_at_once(server: ServerProcess) -> float:
    """Not counting the request for /metrics itself."""
    return server.metric("imgserver_http_requests_in_progress") - 1


def hits(server: ServerProcess, tier: str) -> float:
    return server.metric("imgserver_cache_requests_total", tier=tier, result="hit")
