"""Pipelined connections to a real Redis, and to servers that only look like one."""

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import hiredis
import pytest

from imgserver.cache.redis.endpoint import Endpoint, connection_options
from imgserver.cache.redis.pipeline import (
    BUSY_REQUESTS,
    MAX_CONNECTIONS,
    MAX_PENDING,
    RETRY_SECONDS,
    TOLERATED_TIMEOUTS,
    LagTolerantTimeout,
    PipelinedConnection,
    PipelinedPool,
)
from tests.fault_proxy import proxied
from tests.polling import eventually
from tests.redis_server import in_thread, running

SECONDS = 0.2


def pool_of(port, *, user="", path=""):
    url = f"redis://{user}127.0.0.1:{port}{path}"
    return PipelinedPool(Endpoint.of(connection_options(url, Path())), seconds=SECONDS)


@asynccontextmanager
async def opened(pool):
    try:
        yield await pool.wait_available()
    finally:
        await pool.close()


async def value_of(request):
    (value,), _ = await request
    return value


async def test_each_request_gets_its_own_reply_over_one_connection(redis_server):
    for number in range(200):
        redis_server.admin.set(str(number), f"value {number}" * number)
    before = redis_server.admin.info("stats")["total_connections_received"]
    async with opened(pool_of(redis_server.port)) as connection:
        found = await asyncio.gather(*(value_of(connection.execute(("GET", str(number)))) for number in range(200)))

    assert found == [f"value {number}".encode() * number for number in range(200)]
    assert redis_server.admin.info("stats")["total_connections_received"] == before + 1


async def test_several_commands_have_one_reply_with_errors_in_place(redis_server):
    redis_server.admin.lpush("list", "a")
    async with opened(pool_of(redis_server.port)) as connection:
        reply = await connection.execute(("GET", "list"), ("MGET", "list", "absent"), ("EXISTS", "list"))
        after = await value_of(connection.execute(("GET", "absent")))

    assert str(reply.values[0]).startswith("WRONGTYPE")
    assert reply.values[1:] == [[None, None], 1]
    assert after is None
    assert 0 < reply.seconds < SECONDS


async def test_a_cancelled_request_breaks_neither_the_connection_nor_the_order(redis_server):
    for number in range(100):
        redis_server.admin.set(str(number), number)
    async with opened(pool_of(redis_server.port)) as connection:
        requests = [connection.execute(("GET", str(number))) for number in range(100)]
        for request in requests[::2]:
            request.cancel()
        found = [await value_of(request) for request in requests[1::2]]

        assert found == [str(number).encode() for number in range(1, 100, 2)]
        assert connection.is_open


async def test_a_time_out_fails_the_request_and_ends_the_connection(redis_server):
    pool = pool_of(redis_server.port)
    async with opened(pool) as connection:
        redis_server.freeze()
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await connection.execute(("GET", "a"))
        waited = time.monotonic() - begun
        redis_server.thaw()

        assert 0.8 * SECONDS < waited < 1.5 * SECONDS
        assert not connection.is_open
        assert len(pool) == 0
        assert await value_of((await pool.wait_available()).execute(("GET", "a"))) is None


async def test_each_request_has_its_own_time_out(redis_server):
    async with opened(pool_of(redis_server.port)) as connection:
        redis_server.freeze()
        early = connection.execute(("GET", "a"))
        await asyncio.sleep(0.6 * SECONDS)  # this test is about the time between two requests
        late = connection.execute(("GET", "b"))
        with pytest.raises(TimeoutError):
            await early
        redis_server.thaw()

        assert await value_of(late) is None
        await eventually(lambda: connection.pending == 0)


async def test_the_delay_of_the_event_loop_does_not_count(redis_server):
    redis_server.admin.set("a", "here")
    async with opened(pool_of(redis_server.port)) as connection:
        request = connection.execute(("GET", "a"))
        time.sleep(2 * SECONDS)
        reply = await request

    assert reply.values == [b"here"]
    assert reply.seconds < SECONDS / 2


async def test_a_loop_that_is_always_late_still_times_out(redis_server):
    async with opened(pool_of(redis_server.port)) as connection:
        redis_server.freeze()
        begun = time.monotonic()
        request = connection.execute(("GET", "a"))
        while not request.done() and time.monotonic() - begun < 20 * SECONDS:
            time.sleep(SECONDS)
            await asyncio.sleep(0)
        redis_server.thaw()

        with pytest.raises(TimeoutError):
            await request
        assert time.monotonic() - begun < 10 * SECONDS


async def test_killing_redis_fails_all_pending_requests(redis_server):
    async with opened(pool_of(redis_server.port)) as connection:
        redis_server.freeze()
        requests = [connection.execute(("GET", str(number))) for number in range(20)]
        await in_thread(redis_server.kill)
        failures = await asyncio.gather(*requests, return_exceptions=True)

    assert [type(failure).__name__ for failure in failures] == ["ConnectionLost"] * 20
    assert len(set(map(id, failures))) == 1
    with pytest.raises(Exception, match="closed"):
        await connection.execute(("GET", "a"))


async def test_push_messages_are_not_replies(redis_server):
    redis_server.admin.set("watched", "1")
    async with opened(pool_of(redis_server.port)) as connection:
        await connection.execute(("CLIENT", "TRACKING", "ON"))
        assert await value_of(connection.execute(("GET", "watched"))) == b"1"
        await in_thread(redis_server.admin.set, "watched", "2")

        assert await value_of(connection.execute(("GET", "watched"))) == b"2"
        assert connection.is_open


@asynccontextmanager
async def fake_redis(data):
    """Shakes hands like Redis, and then replies `data` to everything."""

    async def answer(reader, writer):
        await reader.read(1000)
        writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
        await reader.read(1000)
        writer.write(data)
        await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\nhello\r\n+more\r\n"])
async def test_invalid_protocol_ends_the_connection(data):
    async with fake_redis(data) as port, opened(pool_of(port)) as connection:
        await asyncio.gather(connection.execute(("GET", "a")), return_exceptions=True)

        await eventually(lambda: not connection.is_open)


async def execute(pool, *command):
    return await value_of((await pool.wait_available()).execute(command))


async def test_many_requests_open_a_second_connection_and_no_more(redis_server):
    pool = pool_of(redis_server.port)
    async with opened(pool):
        for _ in range(20):
            await asyncio.gather(*(execute(pool, "GET", "a") for _ in range(50)))

        assert len(pool) == MAX_CONNECTIONS


async def test_a_connection_has_a_bounded_number_of_pending_requests_and_all_are_served(redis_server):
    redis_server.admin.set("large", b"x" * 1_000_000)
    pool = pool_of(redis_server.port)
    async with opened(pool):
        tasks = [asyncio.create_task(execute(pool, "STRLEN", "large")) for _ in range(300)]
        most = 0
        while not all(task.done() for task in tasks):
            most = max(most, *(connection.pending for connection in pool._all))
            await asyncio.sleep(0)

        assert [task.result() for task in tasks] == [1_000_000] * 300
        assert most == MAX_PENDING
        assert pool.available() is not None


async def test_a_cancelled_waiter_gives_its_turn_to_the_next(redis_server):
    pool = pool_of(redis_server.port)
    async with opened(pool):
        for _ in range(20):
            tasks = [asyncio.create_task(execute(pool, "ECHO", str(number))) for number in range(100)]
            await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)

            stayed = [number for number in range(100) if number % 3]
            assert [found[number] for number in stayed] == [str(number).encode() for number in stayed]
        assert pool.available() is not None


async def test_a_waiter_that_is_woken_and_cancelled_wakes_the_next():
    pool, connection = pool_of(1), SimpleNamespace(pending=MAX_PENDING)
    pool._open = [connection, connection]
    first, second = (asyncio.create_task(pool.wait_available()) for _ in range(2))
    await asyncio.sleep(0)
    connection.pending = MAX_PENDING - 1
    pool._wake_next()
    first.cancel()

    assert await asyncio.wait_for(second, 5) is connection
    assert first.cancelled()


async def test_a_refused_second_connection_is_not_tried_again_immediately(redis_server):
    pool = pool_of(redis_server.port)
    async with opened(pool):
        redis_server.admin.config_set("maxclients", redis_server.admin.info("clients")["connected_clients"])
        before, begun = redis_server.admin.info("stats")["rejected_connections"], time.monotonic()
        for _ in range(50):
            await asyncio.gather(*(execute(pool, "GET", "a") for _ in range(50)))
        refused = redis_server.admin.info("stats")["rejected_connections"] - before

        assert 1 <= refused <= 1 + (time.monotonic() - begun) / RETRY_SECONDS
        assert len(pool) == 1


async def test_a_refused_connection_raises_the_message_of_redis(redis_server):
    redis_server.admin.config_set("maxclients", redis_server.admin.info("clients")["connected_clients"])
    with pytest.raises(hiredis.ReplyError, match="max number of clients"):
        async with opened(pool_of(redis_server.port)):
            pass


async def test_a_command_that_cannot_be_encoded_does_not_affect_others(redis_server):
    redis_server.admin.set("b", "hers")
    async with opened(pool_of(redis_server.port)) as connection:
        with pytest.raises(UnicodeEncodeError):
            connection.execute(("GET", "\ud800"))

        assert await value_of(connection.execute(("GET", "b"))) == b"hers"


async def test_an_open_connection_is_used_again(redis_server):
    pool = pool_of(redis_server.port)
    async with opened(pool) as connection:
        assert await pool.wait_available() is connection
        assert pool.available() is connection


async def test_few_requests_share_one_connection(redis_server):
    pool = pool_of(redis_server.port)
    async with opened(pool):
        for _ in range(20):
            await asyncio.gather(*(execute(pool, "GET", "a") for _ in range(BUSY_REQUESTS)))

        assert len(pool) == 1


async def test_opening_a_connection_goes_on_after_its_caller_timed_out(redis_server):
    async with proxied(redis_server.port) as proxy:
        proxy.faults.delay_seconds = 0.1
        pool = pool_of(proxy.port)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await pool.wait_available()

        await eventually(lambda: len(pool) == 1)
        assert proxy.accepted == 1
        await pool.close()


async def test_a_refused_connection_is_raised_in_every_waiter(redis_server):
    redis_server.kill()
    pool = pool_of(redis_server.port)
    failures = await asyncio.gather(*(pool.wait_available() for _ in range(5)), return_exceptions=True)
    await pool.close()

    assert all(isinstance(failure, ConnectionRefusedError) for failure in failures)


async def test_the_handshake_sends_user_password_and_database(tmp_path):
    with running(tmp_path, "--requirepass", "secret") as server:
        async with opened(pool_of(server.port, user=":secret@", path="/3")) as connection:
            await connection.execute(
                ("SET", "a", "in three"), ("ACL", "SETUSER", "reader", "on", ">pass", "~*", "+@all")
            )
        async with opened(pool_of(server.port, user="reader:pass@", path="/3")) as connection:
            assert await value_of(connection.execute(("GET", "a"))) == b"in three"
            assert await value_of(connection.execute(("ACL", "WHOAMI"))) == b"reader"
        for wrong in (":no@", ""):
            with pytest.raises(Exception, match=r"WRONGPASS|NOAUTH"):
                async with opened(pool_of(server.port, user=wrong)):
                    pass


async def test_closing_fails_pending_requests(redis_server):
    pool = pool_of(redis_server.port)
    connection = await pool.wait_available()
    redis_server.freeze()
    request = connection.execute(("GET", "a"))
    await pool.close()
    redis_server.thaw()

    with pytest.raises(Exception, match="closed"):
        await request
    assert isinstance(connection, PipelinedConnection)
    assert len(pool) == 0


# LagTolerantTimeout.


async def test_a_block_that_takes_longer_times_out():
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with LagTolerantTimeout(0.02):
            await asyncio.Event().wait()

    assert 0.02 <= time.monotonic() - begun < 1


async def test_a_reply_that_arrived_while_the_loop_was_blocked_is_in_time():
    """And counts as a fast one."""
    loop, reply = asyncio.get_running_loop(), asyncio.Event()
    async with LagTolerantTimeout(0.04) as timeout:
        loop.call_soon(time.sleep, 0.1)
        # Two iterations later, like a reply that takes several iterations to be read.
        loop.call_soon(loop.call_soon, loop.call_soon, reply.set)
        await reply.wait()

        assert timeout.elapsed() < 0.04


async def test_a_block_on_a_loop_that_is_always_late_still_times_out():
    loop = asyncio.get_running_loop()

    def block() -> None:
        time.sleep(0.02)
        handle[0] = loop.call_soon(block)

    handle = [loop.call_soon(block)]
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with LagTolerantTimeout(0.04):
            await asyncio.Event().wait()
    handle[0].cancel()

    assert time.monotonic() - begun > 0.04
    assert time.monotonic() - begun < 1 + 0.04 * (TOLERATED_TIMEOUTS + 1)


async def test_the_timer_ends_with_the_block():
    async with LagTolerantTimeout(0.001):
        pass

    async with asyncio.timeout(1):
        await asyncio.to_thread(time.sleep, 0.01)


async def test_a_cancelled_block_stays_cancelled():
    async def wait_for_long() -> None:
        async with LagTolerantTimeout(10):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(wait_for_long())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
