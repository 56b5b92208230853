"""The origin of object stores: with a real S3 server, with scripted servers for faults that it does not have, and
behind a faulty connection."""

import asyncio
import builtins
import gzip
import logging
import time
from dataclasses import fields

import pytest

from imgserver.errors import (
    Conflict,
    DeadlineExceeded,
    NotFound,
    ServerFault,
    SourceDenied,
    SourceFailed,
)
from imgserver.sources.config import FetchSettings
from imgserver.sources.object_store import ObjectStoreOrigin
from imgserver.sources.object_store_client import ObjectStoreSettings
from imgserver.sources.origin import Validators
from imgserver.sources.origin_cache.origin_cache import OriginCache
from imgserver.sources.origin_cache.settings import OriginCacheSettings
from imgserver.testing import FakeOrigin, OriginContract, SourceContract, fetched
from tests.fault_proxy import proxied
from tests.s3_server import BUSY, KEY, SECRET, S3Server, answer, running, scripted

PNG = b"\x89PNG\r\n\x1a\n of no size"
ENVIRONMENT = {"TEST_AWS_ACCESS_KEY_ID": KEY, "TEST_AWS_SECRET_ACCESS_KEY": SECRET}
FETCH_NAMES = {field.name for field in fields(FetchSettings)}
OK = ('ETag: "one"', "Last-Modified: Mon, 23 Nov 2026 06:00:00 GMT")


def origin_at(
    endpoint: str, *, environ=ENVIRONMENT, url: str = "s3://bucket/photos/of shop", **changes
) -> ObjectStoreOrigin:
    fetch = FetchSettings(**{name: changes.pop(name) for name in FETCH_NAMES & changes.keys()})
    settings = {"region": "us-east-1", "env_prefix": "TEST_", **changes}
    return ObjectStoreOrigin(ObjectStoreSettings(url=url, endpoint=endpoint, fetch=fetch, **settings), environ)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Error and hint of every failure in the log."""
    assert {record.message for record in caplog.records} <= {"object_store.failed"}
    return [(record.error, record.hint) for record in caplog.records]


@pytest.fixture
async def server(tmp_path):
    folder = tmp_path / "s3"
    (folder / "bucket").mkdir(parents=True)
    async with running(folder) as server:
        yield server


@pytest.fixture
def origin(server: S3Server) -> ObjectStoreOrigin:
    return origin_at(server.endpoint)


class TestContract(OriginContract):
    @pytest.fixture
    async def origin(self, origin: ObjectStoreOrigin):
        await origin.store(self.present, self.IMAGE)
        return origin


class TestContractOfTheFake(OriginContract):
    @pytest.fixture
    def origin(self):
        return FakeOrigin({self.present: self.IMAGE})


class TestContractBehindTheOriginCache(SourceContract):
    @pytest.fixture
    async def source(self, origin, tmp_path):
        await origin.store(self.present, self.IMAGE)
        cache = OriginCache(origin, OriginCacheSettings(path=tmp_path / "originals"))
        await cache.start()
        yield cache
        await cache.close()


async def test_the_validators_of_an_object_are_etag_time_and_size(origin):
    await origin.store("cat.png", PNG)
    told, body = await fetched(origin, "cat.png")

    assert body == PNG
    assert told.validators.size_bytes == len(PNG)
    assert told.validators.etag.startswith('"')
    assert abs(told.validators.modified - time.time()) < 60


async def test_the_lifetime_is_that_of_the_objects_cache_control():
    for said, lifetime in (
        ("Cache-Control: public, max-age=77", 77),
        ("Cache-Control: no-cache", 0),
        ("Cache-Control: public", None),
        ("X-Other: max-age=5", None),
    ):
        async with scripted(answer("200 OK", PNG, *OK, said)) as script:
            assert (await origin_at(script.endpoint).stat("a")).max_age_seconds == lifetime
            assert (await fetched(origin_at(script.endpoint), "a"))[0].max_age_seconds == lifetime


async def test_the_content_encoding_of_an_object_is_undone_if_it_is_one():
    for coding, data in (("gzip", gzip.compress(PNG)), ("aws-chunked", PNG), ("utf-8", PNG)):
        async with scripted(answer("200 OK", data, *OK, f"Content-Encoding: {coding}")) as script:
            assert (await fetched(origin_at(script.endpoint), "a"))[1] == PNG
    async with scripted(answer("200 OK", PNG, *OK, "Content-Encoding: br")) as script:
        with pytest.raises(SourceFailed, match="with br"):
            await fetched(origin_at(script.endpoint), "a")


async def test_a_response_without_metadata_has_no_validators():
    async with scripted(answer("200 OK", PNG)) as script:
        told, _ = await fetched(origin_at(script.endpoint), "a")

    assert told.validators == Validators(size_bytes=len(PNG))


@pytest.mark.parametrize("path", ["", "a//b", "../a", "a/../../b", "./a", "a\0b", "\udcff", "x" * 5000])
async def test_an_impossible_name_is_not_found(origin, path):
    with pytest.raises(NotFound):
        await origin.stat(path)
    with pytest.raises(NotFound):
        await fetched(origin, path)


@pytest.mark.parametrize("path", ["ä b.jpg", "%2e%2e/a", "a?b#c", "a\\b", "a+b&c=d"])
async def test_special_characters_of_a_name_stand_for_themselves(origin, path):
    await origin.store(path, path.encode())

    assert (await fetched(origin, path))[1] == path.encode()


# Faults


async def test_a_throttled_request_is_retried():
    async with scripted(*[answer("503 Slow Down", BUSY)] * 2, answer("200 OK", PNG, *OK)) as script:
        assert (await fetched(origin_at(script.endpoint), "a"))[1] == PNG
        assert len(script.requests) == 3


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Internal Server Error", "503 Slow Down"])
async def test_a_store_that_throttles_every_attempt_has_failed(status, caplog):
    async with scripted(answer(status, BUSY)) as script:
        origin = origin_at(script.endpoint, max_attempts=2)
        for _ in range(3):
            with pytest.raises(SourceFailed):
                await fetched(origin, "a")
        assert len(script.requests) == 6

    assert logged(caplog) == [(f"{status[:3]} SlowDown", "the store asks for fewer requests")]


async def test_an_interrupted_body_is_resumed_and_never_written_twice():
    body = bytes(range(256)) * 4000
    half = len(body) // 2
    rest = answer("206 Partial Content", body[half:], *OK, f"Content-Range: bytes {half}-{len(body) - 1}/{len(body)}")
    async with scripted(answer("200 OK", body[:half], *OK, length=len(body)), rest) as script:
        assert (await fetched(origin_at(script.endpoint), "a"))[1] == body
        assert f"range: bytes={half}-".encode() in script.requests[1]


async def test_two_states_of_an_object_are_never_mixed():
    body = bytes(range(256)) * 4000
    half = len(body) // 2
    span = f"Content-Range: bytes {half}-{len(body) - 1}/{len(body)}"
    other = answer("206 Partial Content", body[half:], 'ETag: "two"', OK[1], span)
    async with scripted(answer("200 OK", body[:half], *OK, length=len(body)), other) as script:
        with pytest.raises(SourceFailed):
            await fetched(origin_at(script.endpoint), "a")


async def test_a_body_that_cannot_be_resumed_has_failed():
    async with scripted(answer("200 OK", PNG, *OK, length=1000)) as script:
        with pytest.raises(SourceFailed):
            await fetched(origin_at(script.endpoint), "a")


async def test_a_refused_connection_has_failed(server):
    origin = origin_at(server.endpoint)
    server.kill()

    with pytest.raises(SourceFailed):
        await origin.stat("a")


async def test_a_stalled_store_times_out(server):
    async with proxied(server.port) as proxy:
        origin = origin_at(f"http://127.0.0.1:{proxy.port}", total_timeout_seconds=0.4)
        proxy.faults.stalled = True
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await fetched(origin, "a")
        assert time.monotonic() - begun < 2


async def test_a_slow_body_times_out(origin, server):
    await origin.store("large", bytes(200_000))
    async with proxied(server.port) as proxy:
        slow = origin_at(f"http://127.0.0.1:{proxy.port}", total_timeout_seconds=0.5)
        proxy.faults.bytes_per_second = 1000
        with pytest.raises(DeadlineExceeded):
            await fetched(slow, "large")


async def test_an_attempt_without_a_byte_ends_with_the_idle_time_out(server):
    async with proxied(server.port) as proxy:
        origin = origin_at(
            f"http://127.0.0.1:{proxy.port}", idle_timeout_seconds=0.2, max_attempts=1, total_timeout_seconds=20
        )
        proxy.faults.stalled = True
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await origin.stat("a")
        assert time.monotonic() - begun < 5


async def test_a_reset_connection_is_resumed(origin, server):
    body = bytes(range(256)) * 40_000
    await origin.store("large", body)
    async with proxied(server.port) as proxy:
        spoilt = origin_at(f"http://127.0.0.1:{proxy.port}")
        got = bytearray()

        async def sink(chunk: bytes) -> None:
            if not got:
                proxy.reset()
            got.extend(chunk)

        await spoilt.fetch("large", sink)
        assert got == body


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"TEST_AWS_SECRET_ACCESS_KEY": "a-wrong-secret"}, ("403 SignatureDoesNotMatch", "the secret key is wrong")),
        ({"TEST_AWS_ACCESS_KEY_ID": "ANOTHERKEY"}, ("403 InvalidAccessKeyId", "the access key does not exist")),
    ],
)
async def test_wrong_credentials_are_logged_without_any_secret(server, caplog, changed, expected):
    caplog.set_level(logging.DEBUG)
    environ = {**ENVIRONMENT, **changed}
    with pytest.raises(SourceFailed) as failed:
        await fetched(origin_at(server.endpoint, environ=environ), "a")

    assert logged(caplog) == [expected]
    shown = (
        caplog.text
        + str([vars(record) for record in caplog.records])
        + str(failed.value)
        + repr(failed.value.facts)
        + repr(failed.value.__cause__)
    )
    assert not [secret for secret in environ.values() if secret in shown]


async def test_signed_urls_reach_neither_log_nor_error(caplog):
    environ = {"AZ_AZURE_STORAGE_SAS_KEY": "sv=2024&sig=THESIGNATURE"}
    async with scripted(answer("403 Forbidden", b"<Error><Code>AuthenticationFailed</Code></Error>")) as script:
        settings = ObjectStoreSettings(
            url="az://container/photos", endpoint=f"{script.endpoint}/account", env_prefix="AZ_"
        )
        environ["AZ_AZURE_STORAGE_ACCOUNT_NAME"] = "account"
        with pytest.raises(SourceFailed) as failed:
            await fetched(ObjectStoreOrigin(settings, environ), "a")
        assert b"THESIGNATURE" in script.requests[0]

    assert logged(caplog) == [("403 AuthenticationFailed", "the account's key is wrong")]
    shown = caplog.text + str([vars(record) for record in caplog.records])
    assert "THESIGNATURE" not in shown + str(failed.value) + repr(failed.value.facts)
    assert failed.value.__cause__ is None


async def test_a_missing_bucket_is_a_failure_and_not_an_absent_original(server, caplog):
    with pytest.raises(SourceFailed):
        await fetched(origin_at(server.endpoint, url="s3://nobucket/photos"), "a")

    assert logged(caplog) == [("404 NoSuchBucket", "the bucket does not exist")]


# Settings


async def test_credentials_come_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    origin = origin_at(server.endpoint, env_prefix="")
    await origin.store("cat.png", PNG)

    assert (await fetched(origin, "cat.png"))[1] == PNG


def test_an_env_prefix_without_variables_stops_the_start():
    with pytest.raises(ServerFault, match="no environment variable begins with TEST_"):
        origin_at("http://127.0.0.1:1", environ={})


@pytest.mark.parametrize(
    "url", ["", "bucket", "file:///etc", "memory:///", "http://host/a", "s3://key:secret@bucket", "s3://bucket?sig=x"]
)
def test_only_urls_of_object_stores_are_accepted(url):
    with pytest.raises(ServerFault, match="s3://bucket/prefix") as refused:
        origin_at("http://127.0.0.1:1", url=url)

    assert "secret" not in refused.value.detail


def test_a_client_that_cannot_be_created_is_reported_without_its_message():
    with pytest.raises(ServerFault, match="az://container cannot be used: MissingAccount"):
        ObjectStoreOrigin(ObjectStoreSettings(url="az://container"), {})
    with pytest.raises(ServerFault, match="UnknownConfigurationKeyError") as refused:
        origin_at("", environ={"TEST_NONSENSE": "the-secret"})
    assert "the-secret" not in refused.value.detail


def test_without_obstore_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("obstore"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ServerFault, match=r"pip install 'imgserver\[s3\]'"):
        origin_at("http://127.0.0.1:1")


# Writing


async def test_an_object_is_written_with_its_content_type_and_does_not_overwrite(origin):
    await origin.store("new/cat.png", PNG)
    with pytest.raises(Conflict):
        await origin.store("new/cat.png", b"other")

    assert (await fetched(origin, "new/cat.png"))[1] == PNG
    await origin.store("new/cat.png", b"other", replace=True)
    assert (await fetched(origin, "new/cat.png"))[1] == b"other"


async def test_a_write_without_replace_is_conditional():
    absent, there = answer("404 Not Found"), answer("412 Precondition Failed")
    async with scripted(absent, there) as script:
        with pytest.raises(Conflict):
            await origin_at(script.endpoint).store("cat.png", PNG)
        assert b"if-none-match: *" in script.requests[1]
        assert b"content-type: image/png" in script.requests[1]


async def test_a_failed_write_raises_an_error(server):
    origin = origin_at(server.endpoint)
    with pytest.raises(NotFound):
        await origin.store("../a", PNG)
    server.kill()
    with pytest.raises(SourceFailed):
        await origin.store("a", PNG)


async def test_an_original_stored_through_the_origin_cache_is_read_through_it(origin, tmp_path):
    cache = OriginCache(origin, OriginCacheSettings(path=tmp_path / "originals", negative_ttl_seconds=60))
    await cache.start()
    with pytest.raises(NotFound):
        await cache.fingerprint("cat.png")
    await cache.store("cat.png", PNG)
    async with cache.open("cat.png") as original:
        assert original.head == PNG
    await cache.store("cat.png", PNG + b"!", replace=True)
    async with cache.open("cat.png") as original:
        assert original.head == PNG + b"!"
    await cache.close()


async def test_a_read_only_origin_is_not_written_through_the_origin_cache(tmp_path):
    cache = OriginCache(FakeOrigin(), OriginCacheSettings(path=tmp_path))
    await cache.start()
    with pytest.raises(SourceDenied):
        await cache.store("cat.png", PNG)
    await cache.close()


async def test_a_cancelled_fetch_closes_its_connection(origin, server):
    await origin.store("large", bytes(1_000_000))
    async with proxied(server.port) as proxy:
        slow = origin_at(f"http://127.0.0.1:{proxy.port}")
        proxy.faults.bytes_per_second = 10_000
        task = asyncio.create_task(fetched(slow, "large"))
        while not proxy.accepted:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
