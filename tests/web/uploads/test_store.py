"""Originals in a real S3 server (rclone), and uploads into it and into folders; asked of a real server."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.multipart_forms import CONTENT_TYPE, field, form, picture
from tests.running_server import SAMPLES, Answer, ServerProcess, serving, wait_until
from tests.s3_server import BUSY, KEY, SECRET, S3Server, Script, answer, scripted

ADMIN = "a key of sixteen characters"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
PHOTO = (SAMPLES / "cat.png").read_bytes()
HASTY = {
    "origin_cache_min_ttl_seconds": 0,
    "origin_cache_stale_while_revalidate_seconds": 0,
    "origin_cache_default_ttl_seconds": 0,
    "origin_cache_retry_delay_seconds": 0,
}
QUIET = {"workers_count": 1, "disk_limit_bytes": 0}


@pytest.fixture
def store(tmp_path) -> Iterator[S3Server]:
    """The bucket `bucket` with photos/cat.png and photos/animals/dogs.jpg in it."""
    folder = tmp_path / "buckets" / "bucket" / "photos"
    (folder / "animals").mkdir(parents=True)
    shutil.copy(SAMPLES / "cat.png", folder)
    shutil.copy(SAMPLES / "dogs.jpg", folder / "animals")
    server = S3Server(tmp_path / "buckets")
    try:
        asyncio.run(server.start())
        yield server
    finally:
        server.kill()


@contextmanager
def serving_store(store: S3Server, **settings: object) -> Iterator[ServerProcess]:
    """As the default source."""
    with serving(
        "s3://bucket/photos", variables=CREDENTIALS, source_endpoint=store.endpoint, **QUIET, **settings
    ) as server:
        yield server


def upload(server: ServerProcess, name: str, key: str = ADMIN) -> Answer:
    body = form(field("store", name), field("w", "90"), picture(PHOTO, "cat.png"))
    fields = {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(body)), "Authorization": f"Bearer {key}"}
    return server.ask("/api/image/optimize", "POST", fields, body)


def test_a_bucket_is_served_like_a_folder(store):
    with serving_store(store) as server:
        front = server.ask("/")
        answers = [server.ask(f"/img/w_{width}/animals/dogs.jpg") for width in (10, 11, 12)]
        absent = server.ask("/img/w_10/nosuch.jpg")
        fetches = server.metric("imgserver_origin_cache_requests_total", source="photos", result="fetches")

    assert front.status == 200
    assert b"/cat.png" in front.body
    assert b"/animals/dogs.jpg" in front.body
    assert {one.status for one in answers} == {200}
    assert (absent.status, fetches) == (404, 1)


def test_a_bucket_is_one_source_of_several(store):
    named = {"sources_shop_url": "s3://bucket/photos", "sources_shop_endpoint": store.endpoint}
    variables = {f"SHOP_{name}": value for name, value in CREDENTIALS.items()}
    with serving(variables=variables, sources_shop_env_prefix="SHOP_", **named, **QUIET) as server:
        statuses = [server.ask(f"/img/w_10/{path}").status for path in ("shop/cat.png", "cat.png", "shop/nosuch.png")]

    assert statuses == [200, 200, 404]


def test_what_changes_in_the_bucket_is_seen(store):
    with serving_store(store, **HASTY) as server:
        old = server.ask("/img/w_10/cat.png")
        shutil.copy(SAMPLES / "coffee.png", store.folder / "bucket" / "photos" / "cat.png")

        wait_until(lambda: server.ask("/img/w_10/cat.png").headers["ETag"] != old.headers["ETag"], "the new one")


def test_while_the_store_is_away_what_is_kept_is_answered_and_nothing_new_is(store):
    with serving_store(store, **HASTY) as server:
        kept = server.ask("/img/w_10/cat.png")
        store.kill()

        again, other_size = server.ask("/img/w_10/cat.png"), server.ask("/img/w_11/cat.png")
        new = server.ask("/img/w_10/animals/dogs.jpg")
        front = server.ask("/")

    assert (again.status, again.headers["ETag"]) == (200, kept.headers["ETag"])
    assert other_size.status == 200
    assert (new.status, new.headers["Cache-Control"]) == (502, "no-store")
    assert front.status == 502


def test_a_busy_store_is_asked_again_and_then_given_up():
    """SlowDown once, and then for ever."""

    async def statuses() -> list[int]:
        async with scripted(answer("503 Slow Down", BUSY), answer("200 OK", PHOTO)) as script:
            return await asyncio.to_thread(ask, script)

    def ask(script: Script) -> list[int]:
        settings = {"source_endpoint": script.endpoint, "fetch_attempts": 2, **QUIET}
        with serving("s3://bucket", variables=CREDENTIALS, **settings) as server:
            first = server.ask("/img/w_10/a.png").status
            script.answers = [answer("503 Slow Down", BUSY)]
            return [first, server.ask("/img/w_10/b.png").status]

    assert asyncio.run(statuses()) == [200, 502]


def test_an_upload_is_stored_in_a_writable_bucket_and_nowhere_else(store):
    settings = {"source_writable": True, "uploads_store": "photos", "admin_key": ADMIN}
    with serving_store(store, **settings) as server:
        told = upload(server, "new/one.webp")
        served = server.ask(told.headers["Location"])
        twice = upload(server, "new/one.webp")

    files = {path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*") if path.is_file()}
    assert (told.status, served.status, twice.status) == (201, 200, 409)
    assert served.headers["Content-Type"] == "image/webp"
    assert files == {"bucket/photos/cat.png", "bucket/photos/animals/dogs.jpg", "bucket/photos/new/one.webp"}


def test_an_upload_is_stored_in_a_writable_folder_and_nothing_else_in_it_is_touched(tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(SAMPLES, photos)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in photos.iterdir()}
    settings = {"source_writable": True, "uploads_store": "photos", "admin_key": ADMIN}
    with serving(photos, **settings, **QUIET) as server:
        told = upload(server, "new/one.webp")
        served = server.ask(told.headers["Location"])

    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in photos.iterdir()}
    assert (told.status, served.status) == (201, 200)
    assert [path.name for path in (photos / "new").iterdir()] == ["one.webp"]
    assert after == {**before, photos / "new": after[photos / "new"]}


def test_a_folder_that_cannot_be_written_to_is_named_at_the_start():
    settings = {"source_writable": True, "uploads_store": "photos", "admin_key": ADMIN}
    with (
        pytest.raises(AssertionError, match=r"source photos: /proc/sys cannot be written to"),
        serving(Path("/proc/sys"), **settings, **QUIET),
    ):
        pass
