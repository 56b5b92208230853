"""Servers on one Redis, and a server after a change of its settings, whose sources have one name and equal validators
but different originals."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from imgserver.settings.schema import Settings
from imgserver.sources.config import SourceConfig
from imgserver.web.bootstrap.sources import source_identities
from tests.redis_server import RedisServer, running
from tests.running_server import Answer, serving, wait_until
from tests.sources.origin_server import OriginServer
from tests.threaded_origin import photo, revalidated, threaded_origin

KEY = "a key of sixteen characters"
VALIDATORS = {"Last_Modified": "Tue, 24 Nov 2026 10:00:00 GMT", "Cache_Control": "max-age=600"}
SETTINGS = {
    "workers_count": 1,
    "source_allowed_networks": "127.0.0.0/8",
    "sources_other_allowed_networks": "127.0.0.0/8",
}
TARGETS = ("/img/w_40,f_png/a.jpg", "/img/w_40,f_png/other/a.jpg")


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def origin() -> Iterator[OriginServer]:
    with threaded_origin() as one:
        for name in ("red", "blue"):
            one.answers[f"/{name}/a.jpg"] = revalidated(photo(name), '"equal"', **VALIDATORS)
        yield one


def places(origin: OriginServer, own: str, other: str) -> dict[str, str]:
    base = f"http://127.0.0.1:{origin.port}"
    return {"place": f"{base}/{own}/", "sources_other_url": f"{base}/{other}/"}


def color(answer: Answer) -> str:
    red, _, blue = Image.open(BytesIO(answer.body)).convert("RGB").getpixel((20, 10))
    return "red" if red > blue else "blue"


def test_servers_on_one_redis_serve_and_purge_their_own_originals(redis, origin):
    shared = {**SETTINGS, "disk_limit_bytes": 0, "redis_url": redis.url, "admin_key": KEY}
    with (
        serving(**places(origin, "red", "blue"), **shared) as one,
        serving(**places(origin, "blue", "red"), **shared) as two,
    ):
        wait_until(lambda: all(server.metric("imgserver_redis_up") == 1 for server in (one, two)), "both are connected")
        seen = [color(server.ask(target)) for server in (one, two) for target in TARGETS]
        wait_until(lambda: len(redis.admin.keys("imgserver:*/*")) == 4, "all renditions are in Redis")
        purged = one.post("/api/admin/purge", {"source": "a.jpg"}, key=KEY).json()
        states = [server.ask(target).cache_status for server in (one, two) for target in TARGETS]

    assert seen == ["red", "blue", "blue", "red"]
    assert purged["removed"] == {"memory": 1, "redis": 1}
    assert states == ["imgserver; fwd=uri-miss; stored", *["imgserver; hit"] * 3]


def test_a_server_with_another_url_serves_nothing_from_the_folders_of_the_old_one(tmp_path, origin):
    folders = {**SETTINGS, "disk_path": tmp_path / "renditions", "origin_cache_path": tmp_path / "originals"}
    for own, other in (("red", "blue"), ("blue", "red")):
        with serving(**places(origin, own, other), **folders) as server:
            assert [color(server.ask(target)) for target in TARGETS] == [own, other]
            wait_until(lambda: server.metric("imgserver_cache_entries", tier="disk") >= 2, "written")


def test_two_sources_with_one_url_have_two_identities():
    """They may have different credentials, and so different originals."""
    shop = SourceConfig(url="https://cdn.example/", headers=("Authorization: Bearer shop",))
    press = SourceConfig(url="https://cdn.example/", headers=("Authorization: Bearer press",))
    identities = source_identities(Settings(sources={"shop": shop, "press": press}))

    assert len(set(identities.values())) == 3
    assert identities == source_identities(Settings(sources={"shop": replace(shop, headers=()), "press": press}))
