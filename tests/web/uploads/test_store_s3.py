"""Originals in a real S3 server (rclone), and uploads that a real server stores there and in folders."""

import asyncio
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from imgserver.errors import ServerFault
from imgserver.settings.loader import load
from imgserver.web.app import make_app
from tests.multipart_forms import CONTENT_TYPE, field, form, picture
from tests.polling import wait_until
from tests.running_server import SAMPLES, Answer, ServerProcess, serving
from tests.s3_server import BUSY, KEY, SECRET, S3Server, Script, answer, scripted

ADMIN_KEY = "a key of sixteen characters"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
PHOTO = (SAMPLES / "cat.png").read_bytes()
# The origin cache asks the store for every request.
NO_TTL = {
    "origin_cache_min_ttl_seconds": 0,
    "origin_cache_stale_while_revalidate_seconds": 0,
    "origin_cache_default_ttl_seconds": 0,
    "origin_cache_retry_delay_seconds": 0,
}
ONE_WORKER = {"workers_count": 1, "disk_limit_bytes": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[S3Server]:
    """The bucket `bucket` with photos/cat.png and photos/animals/dogs.jpg in it."""
    buckets = tmp_path_factory.mktemp("buckets")
    folder = buckets / "bucket" / "photos"
    (folder / "animals").mkdir(parents=True)
    shutil.copy(SAMPLES / "cat.png", folder)
    shutil.copy(SAMPLES / "dogs.jpg", folder / "animals")
    server = S3Server(buckets)
    try:
        asyncio.run(server.start())
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def bucket(store) -> Iterator[ServerProcess]:
    """A server whose default source, which uploads are stored in, and whose source `shop` are this bucket."""
    with serving(
        "s3://bucket/photos",
        variables={**CREDENTIALS, **{f"SHOP_{name}": value for name, value in CREDENTIALS.items()}},
        source_endpoint=store.endpoint,
        source_writable=True,
        sources_shop_url="s3://bucket/photos",
        sources_shop_endpoint=store.endpoint,
        sources_shop_env_prefix="SHOP_",
        uploads_store="photos",
        admin_key=ADMIN_KEY,
        **ONE_WORKER,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def changing_bucket(store) -> Iterator[ServerProcess]:
    """A server that sees every change of the bucket."""
    with serving(
        "s3://bucket/photos", variables=CREDENTIALS, source_endpoint=store.endpoint, **ONE_WORKER, **NO_TTL
    ) as running:
        yield running


def upload(server: ServerProcess, path: str) -> Answer:
    body = form(field("store", path), field("w", "90"), picture(PHOTO, "cat.png"))
    headers = {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(body)), "Authorization": f"Bearer {ADMIN_KEY}"}
    return server.ask("/api/image/optimize", "POST", headers, body)


def test_a_bucket_is_served_like_a_folder(bucket):
    gallery = bucket.ask("/")
    answers = [bucket.ask(f"/img/w_{width}/animals/dogs.jpg") for width in (10, 11, 12)]
    missing = bucket.ask("/img/w_10/nosuch.jpg")
    fetches = bucket.metric("imgserver_origin_cache_requests_total", source="photos", result="fetches")

    assert gallery.status == 200
    assert b"/cat.png" in gallery.body
    assert b"/animals/dogs.jpg" in gallery.body
    assert {one.status for one in answers} == {200}
    assert (missing.status, fetches) == (404, 1)


def test_a_bucket_is_one_of_several_sources(bucket):
    statuses = [bucket.ask(f"/img/w_10/{path}").status for path in ("shop/cat.png", "cat.png", "shop/nosuch.png")]

    assert statuses == [200, 200, 404]


def test_an_upload_is_stored_in_a_writable_bucket_and_nowhere_else(store, bucket):
    stored = upload(bucket, "new/one.webp")
    served = bucket.ask(stored.headers["Location"])
    again = upload(bucket, "new/one.webp")

    files = {path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*") if path.is_file()}
    assert (stored.status, served.status, again.status) == (201, 200, 409)
    assert served.headers["Content-Type"] == "image/webp"
    assert files == {"bucket/photos/cat.png", "bucket/photos/animals/dogs.jpg", "bucket/photos/new/one.webp"}


def test_a_changed_object_is_served_anew(store, changing_bucket):
    old = changing_bucket.ask("/img/w_10/animals/dogs.jpg")
    shutil.copy(SAMPLES / "autumn.jpg", store.folder / "bucket" / "photos" / "animals" / "dogs.jpg")

    wait_until(
        lambda: changing_bucket.ask("/img/w_10/animals/dogs.jpg").headers["ETag"] != old.headers["ETag"],
        "the new object is served",
    )


def test_without_the_store_only_cached_originals_are_served(store, changing_bucket):
    before = changing_bucket.ask("/img/w_10/cat.png")
    store.kill()
    after, other_size = changing_bucket.ask("/img/w_10/cat.png"), changing_bucket.ask("/img/w_11/cat.png")
    new = changing_bucket.ask("/img/w_10/never-requested.jpg")
    gallery = changing_bucket.ask("/")
    asyncio.run(store.start())

    assert (after.status, after.headers["ETag"]) == (200, before.headers["ETag"])
    assert other_size.status == 200
    assert (new.status, new.headers["Cache-Control"]) == (502, "no-store")
    assert gallery.status == 502


def test_a_request_to_a_busy_store_is_retried_and_then_fails():
    """The store replies SlowDown once, and later to every request."""

    async def statuses() -> list[int]:
        async with scripted(answer("503 Slow Down", BUSY), answer("200 OK", PHOTO)) as script:
            return await asyncio.to_thread(request_twice, script)

    def request_twice(script: Script) -> list[int]:
        settings = {"source_endpoint": script.endpoint, "fetch_max_attempts": 2, **ONE_WORKER}
        with serving("s3://bucket", variables=CREDENTIALS, **settings) as server:
            first = server.ask("/img/w_10/a.png").status
            script.answers = [answer("503 Slow Down", BUSY)]
            return [first, server.ask("/img/w_10/b.png").status]

    assert asyncio.run(statuses()) == [200, 502]


def test_a_folder_that_is_not_writable_stops_the_start():
    settings = {"source.root": Path("/proc/sys"), "source.writable": True, "uploads.store": "photos"}

    with pytest.raises(ServerFault, match=r"source photos: /proc/sys cannot be written to"):
        make_app(load(None, {}, settings).settings, log_stream=BytesIO())
