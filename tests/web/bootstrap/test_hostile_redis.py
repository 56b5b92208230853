"""A stranger who writes to the Redis of a server: forged records, and floods on the channel of purges."""

import secrets
import statistics
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson
import pytest
import xxhash

from tests.redis_server import RedisServer, running
from tests.running_server import ServerProcess, serving, wait_until

TARGET = "/img/w_40,f_png/cat.png"
KEY = "a key of sixteen characters"
# The record's beginning: magic, schema, bytes of the header and of the body, checksum of all else.
PREFIX = struct.Struct(">3sBIQ16s")


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def server(redis) -> Iterator[ServerProcess]:
    """Without a memory tier, so that each request reads the record in Redis."""
    with serving(workers_count=1, disk_limit_bytes=0, cache_memory_bytes=0, redis_url=redis.url) as running:
        wait_until(lambda: running.metric("imgserver_redis_up") == 1, "it is connected")
        yield running


def forge(record: bytes, index: int, value: object) -> bytes:
    """The record with another field, and the right checksum."""
    magic, schema, header_bytes, _, _ = PREFIX.unpack_from(record)
    fields = orjson.loads(record[PREFIX.size : PREFIX.size + header_bytes])
    body = record[PREFIX.size + header_bytes :]
    fields[index] = value
    header = orjson.dumps(fields)
    checked = PREFIX.pack(magic, schema, len(header), len(body), b"")[: PREFIX.size - 16]
    return checked + xxhash.xxh3_128(checked + header + body).digest() + header + body


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (1, "image/png\r\nSet-Cookie: a=b"),
        (2, 'etag"\r\n'),
        (3, -1),
        (7, "\r\n"),
        (9, 10**15),
        (9, -(10**17)),
        (10, -(2**62)),
        (11, "no-store"),
        (12, 1e300),
        (13, -1.0),
        (14, 1e300),
        (15, 1e300),
        (16, [["a", "x" * 5000]]),
        (16, "generations"),
    ],
)
def test_a_record_with_a_right_checksum_and_an_absurd_field_is_a_miss(redis, server, index, value):
    server.ask(TARGET)
    wait_until(lambda: redis.admin.keys("imgserver:*/*"), "the record is written")
    (name,) = redis.admin.keys("imgserver:*/*")
    redis.admin.set(name, forge(redis.admin.get(name), index, value), keepttl=True)
    corrupt = sum(server.image_health()["cache"]["tiers"]["redis"]["corrupt"].values())
    answer = server.ask(TARGET)

    assert (answer.status, answer.cache_status) == (200, "imgserver; fwd=uri-miss; stored")
    assert "Set-Cookie" not in answer.headers
    assert sum(server.image_health()["cache"]["tiers"]["redis"]["corrupt"].values()) == corrupt + 1
    wait_until(lambda: server.ask(TARGET).cache_status == "imgserver; hit", "the new record is served")


def test_a_forged_record_can_hold_what_a_server_writes(redis, server):
    """The forgery itself is right: with an unchanged field the record is a hit."""
    server.ask(TARGET)
    wait_until(lambda: server.ask(TARGET).cache_status == "imgserver; hit", "the record is written")
    (name,) = redis.admin.keys("imgserver:*/*")
    redis.admin.set(name, forge(redis.admin.get(name), 1, "image/x-forged"), keepttl=True)

    # Another URL of the same record: the headers of the first are prepared already.
    assert server.ask("/img/f_png,w_40/cat.png").headers["Content-Type"] == "image/x-forged"
    redis.admin.delete(name)


FLOODS: dict[str, Callable[[], bytes]] = {
    "purges": lambda: orjson.dumps({f"d{secrets.token_hex(8)}": secrets.token_hex(8)}),
    "garbage": lambda: secrets.token_bytes(30),
    "many tokens": lambda: orjson.dumps({f"d{secrets.token_hex(8)}": secrets.token_hex(8) for _ in range(400)}),
    "long tokens": lambda: orjson.dumps({"d" + 100_000 * "a": 100_000 * "b"}),
}


@contextmanager
def flooded(redis: RedisServer, make: Callable[[], bytes]) -> Iterator[None]:
    """Messages are published as fast as Redis takes them."""
    messages, stopped = [make() for _ in range(100)], threading.Event()

    def flood() -> None:
        while not stopped.is_set():
            pipe = redis.admin.pipeline(transaction=False)
            for message in messages:
                pipe.publish("flooded:purges", message)
            pipe.execute()

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(10)


@pytest.fixture(scope="module")
def pair(redis) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    settings = {"workers_count": 1, "disk_limit_bytes": 0, "redis_url": redis.url, "redis_namespace": "flooded"}
    with serving(**settings) as one, serving(**settings, admin_key=KEY) as two:
        wait_until(lambda: all(each.metric("imgserver_redis_up") == 1 for each in (one, two)), "both are connected")
        yield one, two


@pytest.mark.alone
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_purge_messages_does_not_slow_hits_and_a_purge_after_it_arrives(redis, pair, name):
    one, two = pair
    wait_until(lambda: one.ask(TARGET).cache_status == "imgserver; hit", "it is in memory")
    with flooded(redis, FLOODS[name]):
        answers = [one.ask(TARGET) for _ in range(100)]
    purged = two.post("/api/admin/purge", {"source": "cat.png"}, key=KEY)
    wait_until(lambda: one.metric("imgserver_cache_entries", tier="memory") == 0, "the purge has arrived")

    # A hit took 0.7 s when each message was applied by itself.
    assert statistics.median(answer.seconds for answer in answers) < 0.05
    assert max(answer.seconds for answer in answers) < 0.5
    assert {answer.cache_status for answer in answers} == {"imgserver; hit"}
    assert purged.json()["propagated"]
