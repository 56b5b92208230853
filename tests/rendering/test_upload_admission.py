import asyncio

import pytest

from imgserver.errors import Overloaded, Unavailable
from imgserver.rendering.upload_admission import UploadAdmission, UploadSettings
from imgserver.security.policy import UploadLimits
from tests.polling import eventually


def uploads(**settings) -> UploadAdmission:
    return UploadAdmission(UploadSettings(**settings))


async def hold(admission: UploadAdmission, free: asyncio.Event) -> None:
    async with admission.place():
        await free.wait()


async def render(admission: UploadAdmission, free: asyncio.Event) -> None:
    async with admission.place() as place, admission.turn(place):
        await free.wait()


async def test_the_next_upload_waits_while_all_places_are_taken():
    admission, free = uploads(max_receiving=2), asyncio.Event()
    tasks = [asyncio.create_task(hold(admission, free)) for _ in range(3)]
    await eventually(lambda: admission.statistics().receiving == 2 and admission.statistics().waiting == 1)

    assert repr(admission) == "<UploadAdmission running 0/2, receiving 2/2, waiting 1/8, 0 bytes>"

    free.set()
    await asyncio.gather(*tasks)

    assert repr(admission) == "<UploadAdmission running 0/2, receiving 0/2, waiting 0/8, 0 bytes>"


async def test_an_upload_frees_its_place_when_its_turn_has_come():
    admission, free = uploads(max_receiving=2, max_concurrent=1), asyncio.Event()
    tasks = [asyncio.create_task(render(admission, free)) for _ in range(3)]
    await eventually(lambda: admission.statistics().running == 1 and admission.statistics().receiving == 2)

    assert repr(admission) == "<UploadAdmission running 1/1, receiving 2/2, waiting 0/8, 0 bytes>"

    free.set()
    await asyncio.gather(*tasks)

    assert admission.statistics() == uploads().statistics()


async def test_the_slowest_body_below_the_least_rate_loses_its_place():
    now, displaced = [0.0], []
    admission = UploadAdmission(UploadSettings(max_receiving=3, min_rate_bytes=1000), clock=lambda: now[0])
    async with admission.place() as fast, admission.place() as slow, admission.place() as slowest:
        for place, received in ((fast, 5000), (slow, 900), (slowest, 3)):
            place.bytes = received
            place.on_displaced = lambda place=place: displaced.append(place)
        waiting = asyncio.create_task(hold(admission, asyncio.Event()))
        await eventually(lambda: admission.statistics().waiting == 1)
        assert displaced == []  # all bodies have just begun
        now[0] = 2.0
        await eventually(lambda: len(displaced) == 2)

        assert displaced == [slowest, slow]
        waiting.cancel()
        await asyncio.wait([waiting])


def test_limits_of_the_policy_replace_those_of_the_settings():
    admission = uploads(max_body_bytes=5000, max_parts=7)

    def effective(limits: UploadLimits) -> tuple[int, int]:
        admission.apply(limits)
        return admission.effective_settings.max_body_bytes, admission.effective_settings.max_parts

    assert effective(UploadLimits()) == (5000, 7)
    assert effective(UploadLimits(body_bytes=9000)) == (9000, 7)
    assert effective(UploadLimits(parts=1)) == (5000, 1)


async def test_an_upload_is_refused_at_once_when_the_queue_is_full():
    admission, free = uploads(max_receiving=1, max_waiting=1), asyncio.Event()
    tasks = [asyncio.create_task(hold(admission, free)) for _ in range(2)]
    await eventually(lambda: admission.statistics().waiting == 1)

    with pytest.raises(Overloaded) as caught:
        async with admission.place():
            pass

    assert caught.value.facts["reason"] == "full"
    assert caught.value.facts["retry_after"] >= 1
    free.set()
    await asyncio.gather(*tasks)


async def test_an_upload_is_refused_after_the_longest_wait():
    admission, free = uploads(max_receiving=1, max_wait_seconds=0.05), asyncio.Event()
    task = asyncio.create_task(hold(admission, free))
    await eventually(lambda: admission.statistics().receiving == 1)

    with pytest.raises(Overloaded) as caught:
        async with admission.place():
            pass

    assert caught.value.facts["reason"] == "deadline"
    assert admission.statistics().waiting == 0
    free.set()
    await task


async def test_a_client_that_disconnects_while_waiting_takes_no_place():
    admission, free = uploads(max_receiving=1), asyncio.Event()
    first = asyncio.create_task(hold(admission, free))
    await eventually(lambda: admission.statistics().receiving == 1)
    second = asyncio.create_task(hold(admission, free))
    await eventually(lambda: admission.statistics().waiting == 1)

    second.cancel()
    await asyncio.wait([second])
    free.set()
    await first

    assert admission.statistics() == uploads().statistics()


def test_temporary_bytes_are_claimed_within_their_bound_and_released():
    admission = uploads(max_temp_bytes=1 << 20)
    admission.claim_bytes(1 << 20)

    with pytest.raises(Unavailable) as caught:
        admission.claim_bytes(1)

    assert caught.value.facts["reason"] == "space"
    admission.release_bytes(1 << 20)
    admission.claim_bytes(1)
    assert admission.statistics().space_bytes == 1
