import asyncio

import pytest

from imgserver.cache.write_behind import ENTRY_BYTES, WriteBehind
from imgserver.testing import make_rendition


class SlowWriter:
    """Records what it writes, and waits for `go`."""

    def __init__(self) -> None:
        self.written = []
        self.go = asyncio.Event()

    async def __call__(self, key, change):
        await self.go.wait()
        if key == "bad":
            raise RuntimeError
        self.written.append((key, change and change.body))


@pytest.fixture
async def writer():
    return SlowWriter()


@pytest.fixture
async def writes(writer):
    writes = WriteBehind(writer, limit_bytes=10 * ENTRY_BYTES)
    workers = [asyncio.create_task(writes.run()) for _ in range(2)]
    yield writes
    for worker in workers:
        worker.cancel()


async def test_writes_beyond_the_limit_are_dropped_and_counted(writes):
    accepted = [writes.schedule(str(number), make_rendition(b"x" * ENTRY_BYTES)) for number in range(8)]

    assert accepted == [True] * 5 + [False] * 3
    assert (writes.bytes, writes.dropped) == (10 * ENTRY_BYTES, 3)


async def test_written_bytes_leave_the_budget(writes, writer):
    for number in range(5):
        writes.schedule(str(number), make_rendition(b"x" * ENTRY_BYTES))
    writer.go.set()

    assert await writes.drain(seconds=1)
    assert (writes.bytes, len(writes), len(writer.written)) == (0, 0, 5)


async def test_the_last_change_of_a_key_wins(writes, writer):
    for key in ("busy", "busy too"):
        writes.schedule(key, make_rendition())
    await asyncio.sleep(0)
    for body in (b"first", b"second"):
        writes.schedule("a", make_rendition(body))
    assert writes.bytes == 3 * ENTRY_BYTES + len(b"picture" * 2 + b"second")
    writes.schedule("a", None)
    assert writes.is_dropping("a")
    writer.go.set()
    await writes.drain(seconds=1)

    assert [change for key, change in writer.written if key == "a"] == [None]
    assert not writes.is_dropping("a")


async def test_a_failed_write_is_logged_and_the_writer_goes_on(writes, writer, caplog):
    writer.go.set()
    writes.schedule("bad", make_rendition())
    writes.schedule("good", make_rendition())
    await writes.drain(seconds=1)

    assert [key for key, _ in writer.written] == ["good"]
    assert (writes.bytes, len(caplog.records)) == (0, 1)


async def test_wait_applied_waits_for_one_key_and_times_out(writes, writer):
    writes.schedule("a", make_rendition())

    assert await writes.wait_applied("other", seconds=0.01)
    assert not await writes.wait_applied("a", seconds=0.01)
    writer.go.set()
    assert await writes.wait_applied("a", seconds=1)
