"""PipelinedPool against a real Redis, and against others who only look like one."""

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import hiredis
import pytest

from imgserver.cache.redis.client import address_of
from imgserver.cache.redis.pipeline import (
    CROWD,
    LANES,
    PLACES,
    RETRY_SECONDS,
    Endpoint,
    PipelinedConnection,
    PipelinedPool,
)
from tests.fault_proxy import proxied
from tests.polling import eventually
from tests.redis_server import in_thread, running

SECONDS = 0.2


def lanes_to(port, *, user="", path=""):
    url = f"redis://{user}127.0.0.1:{port}{path}"
    return PipelinedPool(Endpoint.of(address_of(url, Path())), seconds=SECONDS)


@asynccontextmanager
async def opened(lanes):
    try:
        yield await lanes.opened()
    finally:
        await lanes.close()


async def reply_of(question):
    (reply,), _ = await question
    return reply


async def test_each_reply_goes_to_who_asked_for_it_over_one_connection(redis_server):
    for number in range(200):
        redis_server.admin.set(str(number), f"value {number}" * number)
    before = redis_server.admin.info("stats")["total_connections_received"]
    async with opened(lanes_to(redis_server.port)) as lane:
        found = await asyncio.gather(*(reply_of(lane.ask(("GET", str(number)))) for number in range(200)))

    assert found == [f"value {number}".encode() * number for number in range(200)]
    assert redis_server.admin.info("stats")["total_connections_received"] == before + 1


async def test_replies_to_several_commands_come_together_with_errors_in_their_place(redis_server):
    redis_server.admin.lpush("list", "a")
    async with opened(lanes_to(redis_server.port)) as lane:
        answer = await lane.ask(("GET", "list"), ("MGET", "list", "absent"), ("EXISTS", "list"))
        after = await reply_of(lane.ask(("GET", "absent")))

    assert str(answer.replies[0]).startswith("WRONGTYPE")
    assert answer.replies[1:] == [[None, None], 1]
    assert after is None
    assert 0 < answer.seconds < SECONDS


async def test_who_leaves_breaks_neither_the_lane_nor_the_order(redis_server):
    for number in range(100):
        redis_server.admin.set(str(number), number)
    async with opened(lanes_to(redis_server.port)) as lane:
        questions = [lane.ask(("GET", str(number))) for number in range(100)]
        for question in questions[::2]:
            question.cancel()
        found = [await reply_of(question) for question in questions[1::2]]

        assert found == [str(number).encode() for number in range(1, 100, 2)]
        assert lane.is_open


async def test_what_is_not_answered_in_time_fails_and_ends_the_lane(redis_server):
    lanes = lanes_to(redis_server.port)
    async with opened(lanes) as lane:
        redis_server.freeze()
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await lane.ask(("GET", "a"))
        waited = time.monotonic() - begun
        redis_server.thaw()

        assert 0.8 * SECONDS < waited < 1.5 * SECONDS
        assert not lane.is_open
        assert len(lanes) == 0
        assert await reply_of((await lanes.opened()).ask(("GET", "a"))) is None


async def test_who_asked_later_still_has_the_whole_time(redis_server):
    async with opened(lanes_to(redis_server.port)) as lane:
        redis_server.freeze()
        early = lane.ask(("GET", "a"))
        await asyncio.sleep(0.6 * SECONDS)  # the time between two questions is what this is about
        late = lane.ask(("GET", "b"))
        with pytest.raises(TimeoutError):
            await early
        redis_server.thaw()

        assert await reply_of(late) is None
        await eventually(lambda: lane.waiting == 0)


async def test_what_the_event_loop_is_late_by_is_not_counted(redis_server):
    redis_server.admin.set("a", "here")
    async with opened(lanes_to(redis_server.port)) as lane:
        question = lane.ask(("GET", "a"))
        time.sleep(2 * SECONDS)
        answer = await question

    assert answer.replies == [b"here"]
    assert answer.seconds < SECONDS / 2


async def test_a_loop_that_is_always_late_does_not_wait_for_ever(redis_server):
    async with opened(lanes_to(redis_server.port)) as lane:
        redis_server.freeze()
        begun = time.monotonic()
        question = lane.ask(("GET", "a"))
        while not question.done() and time.monotonic() - begun < 20 * SECONDS:
            time.sleep(SECONDS)
            await asyncio.sleep(0)
        redis_server.thaw()

        with pytest.raises(TimeoutError):
            await question
        assert time.monotonic() - begun < 10 * SECONDS


async def test_a_killed_redis_fails_all_who_wait(redis_server):
    async with opened(lanes_to(redis_server.port)) as lane:
        redis_server.freeze()
        questions = [lane.ask(("GET", str(number))) for number in range(20)]
        await in_thread(redis_server.kill)
        failures = await asyncio.gather(*questions, return_exceptions=True)

    assert [type(failure).__name__ for failure in failures] == ["ConnectionLost"] * 20
    assert len(set(map(id, failures))) == 1
    with pytest.raises(Exception, match="closed"):
        await lane.ask(("GET", "a"))


async def test_news_that_redis_sends_by_itself_are_nobodys_reply(redis_server):
    redis_server.admin.set("watched", "1")
    async with opened(lanes_to(redis_server.port)) as lane:
        await lane.ask(("CLIENT", "TRACKING", "ON"))
        assert await reply_of(lane.ask(("GET", "watched"))) == b"1"
        await in_thread(redis_server.admin.set, "watched", "2")

        assert await reply_of(lane.ask(("GET", "watched"))) == b"2"
        assert lane.is_open


@asynccontextmanager
async def speaking(words):
    """Greets as Redis does, and then says `words` whatever it is told."""

    async def answer(reader, writer):
        await reader.read(1000)
        writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
        await reader.read(1000)
        writer.write(words)
        await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\nhello\r\n+more\r\n"])
async def test_what_no_redis_would_say_ends_the_lane(words):
    async with speaking(words) as port, opened(lanes_to(port)) as lane:
        await asyncio.gather(lane.ask(("GET", "a")), return_exceptions=True)

        await eventually(lambda: not lane.is_open)


async def ask(lanes, *command):
    return await reply_of((await lanes.opened()).ask(command))


async def test_a_crowd_has_another_lane_opened_and_no_more(redis_server):
    lanes = lanes_to(redis_server.port)
    async with opened(lanes):
        for _ in range(20):
            await asyncio.gather(*(ask(lanes, "GET", "a") for _ in range(50)))

        assert len(lanes) == LANES


async def test_no_more_than_the_places_are_asked_at_once_and_all_come_to_their_turn(redis_server):
    redis_server.admin.set("large", b"x" * 1_000_000)
    lanes = lanes_to(redis_server.port)
    async with opened(lanes):
        tasks = [asyncio.create_task(ask(lanes, "STRLEN", "large")) for _ in range(300)]
        most = 0
        while not all(task.done() for task in tasks):
            most = max(most, *(lane.waiting for lane in lanes._living))
            await asyncio.sleep(0)

        assert [task.result() for task in tasks] == [1_000_000] * 300
        assert most == PLACES
        assert lanes.free() is not None


async def test_who_leaves_the_queue_leaves_their_turn_to_the_next(redis_server):
    lanes = lanes_to(redis_server.port)
    async with opened(lanes):
        for _ in range(20):
            tasks = [asyncio.create_task(ask(lanes, "ECHO", str(number))) for number in range(100)]
            await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)

            stayed = [number for number in range(100) if number % 3]
            assert [found[number] for number in stayed] == [str(number).encode() for number in stayed]
        assert lanes.free() is not None


async def test_who_is_called_and_leaves_in_the_same_moment_calls_the_next():
    lanes, lane = lanes_to(1), SimpleNamespace(waiting=PLACES)
    lanes._open = [lane, lane]
    first, second = (asyncio.create_task(lanes.opened()) for _ in range(2))
    await asyncio.sleep(0)
    lane.waiting = PLACES - 1
    lanes._call_next()
    first.cancel()

    assert await asyncio.wait_for(second, 5) is lane
    assert first.cancelled()


async def test_another_lane_that_is_refused_is_not_asked_for_again_at_once(redis_server):
    lanes = lanes_to(redis_server.port)
    async with opened(lanes):
        redis_server.admin.config_set("maxclients", redis_server.admin.info("clients")["connected_clients"])
        before, begun = redis_server.admin.info("stats")["rejected_connections"], time.monotonic()
        for _ in range(50):
            await asyncio.gather(*(ask(lanes, "GET", "a") for _ in range(50)))
        refused = redis_server.admin.info("stats")["rejected_connections"] - before

        assert 1 <= refused <= 1 + (time.monotonic() - begun) / RETRY_SECONDS
        assert len(lanes) == 1


async def test_a_refusal_at_the_door_is_told_in_redis_own_words(redis_server):
    redis_server.admin.config_set("maxclients", redis_server.admin.info("clients")["connected_clients"])
    with pytest.raises(hiredis.ReplyError, match="max number of clients"):
        async with opened(lanes_to(redis_server.port)):
            pass


async def test_a_command_that_cannot_be_spelled_harms_nobody_else(redis_server):
    redis_server.admin.set("b", "hers")
    async with opened(lanes_to(redis_server.port)) as lane:
        with pytest.raises(UnicodeEncodeError):
            lane.ask(("GET", "\ud800"))

        assert await reply_of(lane.ask(("GET", "b"))) == b"hers"


async def test_an_open_lane_is_taken_again(redis_server):
    lanes = lanes_to(redis_server.port)
    async with opened(lanes) as lane:
        assert await lanes.opened() is lane
        assert lanes.free() is lane


async def test_few_share_one_lane(redis_server):
    lanes = lanes_to(redis_server.port)
    async with opened(lanes):
        for _ in range(20):
            await asyncio.gather(*(ask(lanes, "GET", "a") for _ in range(CROWD)))

        assert len(lanes) == 1


async def test_a_lane_that_is_opened_outlives_who_waits_for_it(redis_server):
    async with proxied(redis_server.port) as proxy:
        proxy.faults.delay_seconds = 0.1
        lanes = lanes_to(proxy.port)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await lanes.opened()

        await eventually(lambda: len(lanes) == 1)
        assert proxy.accepted == 1
        await lanes.close()


async def test_nobody_there_is_told_to_all_who_wait(redis_server):
    redis_server.kill()
    lanes = lanes_to(redis_server.port)
    failures = await asyncio.gather(*(lanes.opened() for _ in range(5)), return_exceptions=True)
    await lanes.close()

    assert all(isinstance(failure, ConnectionRefusedError) for failure in failures)


async def test_password_user_and_database_are_told_first(tmp_path):
    with running(tmp_path, "--requirepass", "secret") as server:
        async with opened(lanes_to(server.port, user=":secret@", path="/3")) as lane:
            await lane.ask(("SET", "a", "in three"), ("ACL", "SETUSER", "reader", "on", ">pass", "~*", "+@all"))
        async with opened(lanes_to(server.port, user="reader:pass@", path="/3")) as lane:
            assert await reply_of(lane.ask(("GET", "a"))) == b"in three"
            assert await reply_of(lane.ask(("ACL", "WHOAMI"))) == b"reader"
        for wrong in (":no@", ""):
            with pytest.raises(Exception, match=r"WRONGPASS|NOAUTH"):
                async with opened(lanes_to(server.port, user=wrong)):
                    pass


async def test_a_closed_lane_fails_who_waits(redis_server):
    lanes = lanes_to(redis_server.port)
    lane = await lanes.opened()
    redis_server.freeze()
    question = lane.ask(("GET", "a"))
    await lanes.close()
    redis_server.thaw()

    with pytest.raises(Exception, match="closed"):
        await question
    assert isinstance(lane, PipelinedConnection)
    assert len(lanes) == 0
