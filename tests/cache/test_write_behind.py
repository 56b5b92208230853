import asyncio

import pytest

from imgserver.cache.write_behind import ENTRY_BYTES, WriteBehind
from imgserver.testing import make_rendition


class Slow:
    """Notes what it is given, and goes on when it is told to."""

    def __init__(self) -> None:
        self.written = []
        self.go = asyncio.Event()

    async def __call__(self, key, wish):
        await self.go.wait()
        if key == "bad":
            raise RuntimeError
        self.written.append((key, wish and wish.body))


@pytest.fixture
async def slow():
    return Slow()


@pytest.fixture
async def writes(slow):
    writes = WriteBehind(slow, limit_bytes=10 * ENTRY_BYTES)
    workers = [asyncio.create_task(writes.work()) for _ in range(2)]
    yield writes
    for worker in workers:
        worker.cancel()


async def test_over_the_budget_writes_are_dropped_and_counted(writes):
    taken = [writes.wish(str(number), make_rendition(b"x" * ENTRY_BYTES)) for number in range(8)]

    assert taken == [True] * 5 + [False] * 3
    assert (writes.bytes, writes.dropped) == (10 * ENTRY_BYTES, 3)


async def test_the_budget_comes_back(writes, slow):
    for number in range(5):
        writes.wish(str(number), make_rendition(b"x" * ENTRY_BYTES))
    slow.go.set()

    assert await writes.drain(seconds=1)
    assert (writes.bytes, len(writes), len(slow.written)) == (0, 0, 5)


async def test_the_last_wish_of_a_key_wins(writes, slow):
    for key in ("busy", "busy too"):
        writes.wish(key, make_rendition())
    await asyncio.sleep(0)
    for body in (b"first", b"second"):
        writes.wish("a", make_rendition(body))
    assert writes.bytes == 3 * ENTRY_BYTES + len(b"picture" * 2 + b"second")
    writes.wish("a", None)
    assert writes.is_going("a")
    slow.go.set()
    await writes.drain(seconds=1)

    assert [wish for key, wish in slow.written if key == "a"] == [None]
    assert not writes.is_going("a")


async def test_a_failed_write_is_logged_and_ends_nothing(writes, slow, caplog):
    slow.go.set()
    writes.wish("bad", make_rendition())
    writes.wish("good", make_rendition())
    await writes.drain(seconds=1)

    assert [key for key, _ in slow.written] == ["good"]
    assert (writes.bytes, len(caplog.records)) == (0, 1)


async def test_one_can_wait_for_a_keys_write_and_gives_up_in_time(writes, slow):
    writes.wish("a", make_rendition())

    assert await writes.carried_out("other", seconds=0.01)
    assert not await writes.carried_out("a", seconds=0.01)
    slow.go.set()
    assert await writes.carried_out("a", seconds=1)
