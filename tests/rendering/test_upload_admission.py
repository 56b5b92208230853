import asyncio

import pytest

from imgserver.errors import Overloaded, Unavailable
from imgserver.rendering.upload_admission import Uploads, UploadSettings
from imgserver.security.policy import UploadLimits
from tests.polling import eventually


def uploads(**settings) -> Uploads:
    return Uploads(UploadSettings(**settings))


async def hold(room: Uploads, free: asyncio.Event) -> None:
    async with room.place():
        await free.wait()


async def test_so_many_at_once_and_the_next_waits_for_its_turn():
    room, free = uploads(max_concurrent=2), asyncio.Event()
    tasks = [asyncio.create_task(hold(room, free)) for _ in range(3)]
    await eventually(lambda: room.statistics().running == 2 and room.statistics().waiting == 1)

    assert repr(room) == "<Uploads running 2/2, waiting 1/8, 0 bytes>"

    free.set()
    await asyncio.gather(*tasks)

    assert repr(room) == "<Uploads running 0/2, waiting 0/8, 0 bytes>"


def test_the_policys_limits_hold_where_it_has_some():
    room = uploads(max_body_bytes=5000, max_parts=7)

    def bounded(limits: UploadLimits) -> tuple[int, int]:
        room.limit(limits)
        return room.bounded.max_body_bytes, room.bounded.max_parts

    assert bounded(UploadLimits()) == (5000, 7)
    assert bounded(UploadLimits(body_bytes=9000)) == (9000, 7)
    assert bounded(UploadLimits(parts=1)) == (5000, 1)


async def test_beyond_those_who_may_wait_the_answer_is_no_at_once():
    room, free = uploads(max_concurrent=1, max_waiting=1), asyncio.Event()
    tasks = [asyncio.create_task(hold(room, free)) for _ in range(2)]
    await eventually(lambda: room.statistics().waiting == 1)

    with pytest.raises(Overloaded) as caught:
        async with room.place():
            pass

    assert caught.value.facts["reason"] == "full"
    assert caught.value.facts["retry_after"] >= 1
    free.set()
    await asyncio.gather(*tasks)


async def test_nobody_waits_longer_than_agreed():
    room, free = uploads(max_concurrent=1, max_wait_seconds=0.05), asyncio.Event()
    task = asyncio.create_task(hold(room, free))
    await eventually(lambda: room.statistics().running == 1)

    with pytest.raises(Overloaded) as caught:
        async with room.place():
            pass

    assert caught.value.facts["reason"] == "deadline"
    assert room.statistics().waiting == 0
    free.set()
    await task


async def test_who_leaves_while_waiting_takes_no_place():
    room, free = uploads(max_concurrent=1), asyncio.Event()
    first = asyncio.create_task(hold(room, free))
    await eventually(lambda: room.statistics().running == 1)
    second = asyncio.create_task(hold(room, free))
    await eventually(lambda: room.statistics().waiting == 1)

    second.cancel()
    await asyncio.wait([second])
    free.set()
    await first

    assert room.statistics() == uploads().statistics()


def test_space_is_claimed_within_its_bound_and_given_back():
    room = uploads(max_temp_bytes=1 << 20)
    room.claim(1 << 20)

    with pytest.raises(Unavailable) as caught:
        room.claim(1)

    assert caught.value.facts["reason"] == "space"
    room.release(1 << 20)
    room.claim(1)
    assert room.statistics().space_bytes == 1
