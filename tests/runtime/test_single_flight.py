"""Look-ups that several ask for at once."""

import asyncio

import pytest

from imgserver.runtime.single_flight import LookUps


class Looking:
    """A look-up that ends when it is told to."""

    def __init__(self):
        self.begun = 0
        self.release = asyncio.Event()

    async def __call__(self):
        self.begun += 1
        await self.release.wait()
        return self.begun


async def together(look_ups, look, count):
    tasks = [asyncio.create_task(look_ups.join("key", look)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_crowd_looks_once():
    look_ups, look = LookUps(), Looking()
    tasks = await together(look_ups, look, 50)
    look.release.set()

    assert await asyncio.gather(*tasks) == [1] * 50
    assert look.begun == 1


async def test_another_key_is_another_look_up():
    look_ups, look = LookUps(), Looking()
    look.release.set()

    await asyncio.gather(look_ups.join("a", look), look_ups.join("b", look))
    assert look.begun == 2


async def test_who_comes_later_looks_anew():
    look_ups, look = LookUps(), Looking()
    look.release.set()

    assert [await look_ups.join("key", look), await look_ups.join("key", look)] == [1, 2]


async def test_nothing_found_is_an_answer_as_well():
    look_ups, looks = LookUps(), []

    async def nothing():
        looks.append(1)
        await asyncio.sleep(0)

    assert await asyncio.gather(*(look_ups.join("key", nothing) for _ in range(3))) == [None] * 3
    assert len(looks) == 1


async def test_when_the_first_leaves_the_next_looks_for_itself_and_for_the_others():
    look_ups, look = LookUps(), Looking()
    first, *others = await together(look_ups, look, 10)
    first.cancel()
    await asyncio.wait([first])
    look.release.set()

    assert await asyncio.gather(*others) == [2] * 9
    assert look.begun == 2


async def test_a_failure_is_the_firsts_alone():
    look_ups = LookUps()
    looks = []

    async def fails_once():
        looks.append(1)
        await asyncio.sleep(0)
        if len(looks) == 1:
            raise OSError("the first one's")
        return "found"

    first, *others = await together(look_ups, fails_once, 5)

    with pytest.raises(OSError, match="first"):
        await first
    assert await asyncio.gather(*others) == ["found"] * 4


async def test_who_waits_may_leave_without_harm():
    look_ups, look = LookUps(), Looking()
    first, second, third = await together(look_ups, look, 3)
    second.cancel()
    await asyncio.wait([second])
    look.release.set()

    assert [await first, await third] == [1, 1]
