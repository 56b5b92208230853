"""The disk tier on real folders, real kills and a real full file system where one can be mounted."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from imgserver.cache import disk_store
from imgserver.cache.disk import CALLS, DiskSettings, DiskTier
from imgserver.cache.sweeper import SweepResult
from imgserver.runtime import files
from imgserver.runtime.files import BLOCK_BYTES
from imgserver.testing import TierContract, make_rendition
from tests.polling import eventually

BODY = b"\xffpicture\x00" * 300
FILE_BYTES = BLOCK_BYTES


async def opened(path: Path, **settings) -> DiskTier:
    cache = DiskTier(DiskSettings(path=path, **settings))
    await cache.start()
    await cache.scanned()
    return cache


@pytest.fixture
async def cache(tmp_path):
    cache = await opened(tmp_path / "cache")
    yield cache
    await cache.close()


def files_below(path: Path) -> list[Path]:
    return sorted(found for found in path.rglob("*") if found.is_file())


class TestContract(TierContract):
    @pytest.fixture
    async def tier(self, cache):
        return cache


async def test_records_survive_a_restart(tmp_path):
    first = await opened(tmp_path)
    await first.put("a", make_rendition(BODY))
    await first.close()
    second = await opened(tmp_path)

    assert await second.get("a") == make_rendition(BODY)
    assert second.statistics().entries == 1
    assert second.statistics().bytes == FILE_BYTES


async def test_the_byte_cap_holds_and_the_least_recently_used_leaves_first(tmp_path):
    cache = await opened(tmp_path, limit_bytes=3 * FILE_BYTES)
    for key in ("old", "used", "new"):
        await cache.put(key, make_rendition(BODY))
    await cache.get("old")
    await cache.put("newest", make_rendition(BODY))

    assert [await cache.get(key) is not None for key in ("old", "used", "new", "newest")] == [True, False, True, True]
    assert sum(path.stat().st_blocks * 512 for path in files_below(tmp_path)) <= 3 * FILE_BYTES
    assert cache.statistics().evictions == 1


async def test_the_order_of_use_survives_a_restart(tmp_path):
    first = await opened(tmp_path, limit_bytes=3 * FILE_BYTES)
    for age, key in enumerate(("used", "middle", "young")):
        await first.put(key, make_rendition(BODY))
        os.utime(_file_of(first, tmp_path, key), (1000 + age, 1000 + age))
    await first.get("used")
    await first.close()
    second = await opened(tmp_path, limit_bytes=3 * FILE_BYTES)
    await second.put("newest", make_rendition(BODY))

    assert [await second.get(key) is not None for key in ("used", "middle", "young")] == [True, False, True]


async def test_a_smaller_cap_after_a_restart_holds_at_once(tmp_path):
    first = await opened(tmp_path)
    for number in range(10):
        await first.put(str(number), make_rendition(BODY))
    await first.close()
    await opened(tmp_path, limit_bytes=4 * FILE_BYTES)

    assert len(files_below(tmp_path)) == 4


async def test_a_body_over_its_limit_is_not_kept(tmp_path):
    cache = await opened(tmp_path, item_bytes=100)

    assert not await cache.put("a", make_rendition(b"x" * 101))
    assert cache.statistics().dropped_writes == {"size": 1}
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: data[:-10], "length"),
        (lambda data: b"", "empty"),
        (lambda data: data[:60] + b"?" + data[61:], "checksum"),
        (lambda data: data[:-100] + b"\0" * 100, "checksum"),  # torn: the length came to the disk, the blocks did not
        (lambda data: b"\0" * len(data), "magic"),
        (lambda data: data[:3] + b"\0" + data[4:], "schema"),
        (lambda data: data + b"x", "length"),
    ],
    ids=["truncated", "empty", "flipped", "torn", "zeros", "old-schema", "longer"],
)
async def test_a_spoilt_file_is_a_miss_and_gone_and_counted(tmp_path, cache, spoil, reason):
    await cache.put("a", make_rendition(BODY))
    (path,) = files_below(tmp_path)
    path.write_bytes(spoil(path.read_bytes()))

    assert await cache.get("a") is None
    assert files_below(tmp_path) == []
    assert cache.statistics().corrupt == {reason: 1}
    assert (cache.statistics().entries, cache.statistics().bytes) == (0, 0)
    assert await cache.put("a", make_rendition(BODY))
    assert await cache.get("a") is not None


async def test_another_keys_file_under_this_name_is_never_served(tmp_path, cache):
    await cache.put("a", make_rendition(b"a"))
    await cache.put("b", make_rendition(b"b"))
    path_a, path_b = (_file_of(cache, tmp_path, key) for key in "ab")
    path_a.write_bytes(path_b.read_bytes())

    assert await cache.get("a") is None
    assert cache.statistics().corrupt == {"key": 1}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/passwd")])
async def test_what_is_no_file_neither_blocks_nor_is_read(tmp_path, cache, make):
    await cache.put("a", make_rendition(BODY))
    (path,) = files_below(tmp_path)
    path.unlink()
    make(path)

    async with asyncio.timeout(1):
        assert await cache.get("a") is None
    assert cache.statistics().hits == 0


async def test_an_endless_file_is_not_read_whole(tmp_path):
    cache = await opened(tmp_path, item_bytes=1000)
    await cache.put("a", make_rendition(b"a"))
    (path,) = files_below(tmp_path)
    os.truncate(path, 1 << 40)

    assert await cache.get("a") is None
    assert files_below(tmp_path) == []


async def test_a_vanished_folder_is_made_again(tmp_path):
    cache = await opened(tmp_path / "cache")
    await cache.put("a", make_rendition(BODY))
    for path in sorted((tmp_path / "cache").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "cache").rmdir()

    assert await cache.get("a") is None
    assert await cache.put("a", make_rendition(BODY))
    assert await cache.get("a") is not None


async def test_leftovers_of_writers_go_and_foreign_files_stay(tmp_path):
    first = await opened(tmp_path)
    await first.put("a", make_rendition(BODY))
    (path,) = files_below(tmp_path)
    left, foreign = path.with_name(path.name + ".1-2.tmp"), tmp_path / "notes.txt"
    left.write_bytes(b"half")
    foreign.write_bytes(b"mine")
    await opened(tmp_path)

    assert files_below(tmp_path) == sorted([path, foreign])


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
async def test_a_disk_that_refuses_is_read_but_not_written_for_a_minute(tmp_path, monkeypatch, fault):
    now = 100.0
    cache = DiskTier(DiskSettings(path=tmp_path), clock=lambda: now)
    await cache.start()
    await cache.scanned()
    await cache.put("a", make_rendition(BODY))
    tries = []

    def refuse(file, data):
        tries.append(file.write(data[:10]))
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(files, "write_all", refuse)
    answers = [await cache.put(key, make_rendition(BODY)) for key in "bcd"]

    assert answers == [False] * 3
    assert tries == [10]
    assert cache.statistics().writes_paused
    assert cache.statistics().dropped_writes == {"error": 1, "paused": 2}
    assert await cache.get("a") is not None
    assert len(files_below(tmp_path)) == 1
    assert cache.statistics().bytes == FILE_BYTES

    monkeypatch.undo()
    now += 61
    assert await cache.put("b", make_rendition(BODY))


async def test_too_many_open_files_is_no_reason_to_pause(tmp_path, cache, monkeypatch):
    def refuse(file, data):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(files, "write_all", refuse)

    assert not await cache.put("a", make_rendition(BODY))
    assert not cache.statistics().writes_paused


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], capture_output=True)
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


async def test_a_full_disk_keeps_what_it_has(small_disk):
    cache = await opened(small_disk / "cache")
    body = os.urandom(20_000)
    kept = [await cache.put(str(number), make_rendition(body)) for number in range(20)]
    found = [await cache.get(str(number)) for number in range(20)]

    assert 5 < sum(kept) < 20
    assert [rendition is not None for rendition in found] == kept
    assert cache.statistics().writes_paused
    assert not [path for path in files_below(small_disk) if path.suffix == ".tmp"]


async def test_a_read_only_disk_is_read(small_disk):
    first = await opened(small_disk / "cache")
    await first.put("a", make_rendition(BODY))
    await first.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    cache = await opened(small_disk / "cache")

    assert await cache.get("a") is not None
    assert not await cache.put("b", make_rendition(BODY))
    assert cache.statistics().writes_paused


async def test_a_folder_that_cannot_be_had_is_a_tier_that_misses(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    cache = DiskTier(DiskSettings(path=tmp_path / "file" / "cache"))
    await cache.start()
    with pytest.raises(OSError, match="Not a directory"):
        await cache.scanned()

    assert await cache.get("a") is None
    assert not await cache.put("a", make_rendition())
    assert ["The disk cache is off" in line for line in caplog.messages] == [True]


async def test_a_disk_that_stops_costs_its_deadline_once_and_then_nothing(tmp_path, monkeypatch):
    cache = await opened(tmp_path, timeout_seconds=0.05)
    await cache.put("a", make_rendition(BODY))
    resumed = threading.Event()
    monkeypatch.setattr(disk_store.Shelf, "_read", lambda self, name, limit: resumed.wait(30) and b"")
    found = await asyncio.gather(*(cache.get("a") for _ in range(CALLS)))
    async with asyncio.timeout(0.5):
        found += await asyncio.gather(*(cache.get("a") for _ in range(CALLS)))
    told = cache.statistics()
    resumed.set()
    monkeypatch.undo()

    assert found == [None] * 2 * CALLS
    assert told.timeouts >= CALLS
    await eventually(lambda: cache._threads._free_places._value == CALLS)


WRITER = """
import asyncio, sys
from pathlib import Path
from imgserver.cache.disk import DiskTier, DiskSettings
from imgserver.testing import make_rendition

async def main():
    cache = DiskTier(DiskSettings(path=Path(sys.argv[1])))
    await cache.start()
    await cache.scanned()
    number = 0
    while True:
        await asyncio.gather(*(cache.put(str(number + i), make_rendition(bytes([i]) * 200_000)) for i in range(4)))
        number += 4
        print(number, flush=True)

asyncio.run(main())
"""


async def test_a_writer_killed_at_any_moment_leaves_whole_records(tmp_path):
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        told = [int(writer.stdout.readline()) for _ in range(5)][-1]
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        cache = await opened(tmp_path)
        found = [await cache.get(str(number)) for number in range(told)]

        assert all(rendition is not None for rendition in found)
        assert {rendition.body for rendition in found} == {bytes([i]) * 200_000 for i in range(4)}
        assert cache.statistics().corrupt == {}
        assert not [path for path in files_below(tmp_path) if path.suffix == ".tmp"]
        await cache.close()


async def test_a_sweep_removes_what_is_not_kept_and_nothing_else(tmp_path, cache):
    await cache.put("keep", make_rendition(BODY, expires=200.0, generations=(("a", "new"),)))
    await cache.put("expired", make_rendition(BODY, expires=50.0, generations=(("a", "new"),)))
    await cache.put("purged", make_rendition(BODY, expires=200.0, generations=(("a", "old"),)))
    await cache.put("odd", make_rendition(BODY, expires=200.0))
    _file_of(cache, tmp_path, "odd").write_bytes(b"odd")
    gone = await cache.sweep(lambda expires, generations: expires > 100 and generations == (("a", "new"),))

    assert gone == SweepResult(3)
    assert len(files_below(tmp_path)) == 1
    assert await cache.get("keep") is not None


async def test_a_sweep_tells_that_it_could_not_read_a_file_and_goes_on(tmp_path, cache):
    await cache.put("unread", make_rendition(BODY))
    await cache.put("gone", make_rendition(BODY))
    file = _file_of(cache, tmp_path, "unread")
    file.unlink()
    file.mkdir()

    assert await cache.sweep(lambda expires, generations: False) == SweepResult(1, "failed")


async def test_a_write_that_fails_leaves_no_file_that_is_not_counted(tmp_path, cache, monkeypatch):
    await cache.put("a", make_rendition(BODY))
    monkeypatch.setattr(files, "write_all", Mock(side_effect=OSError(errno.EIO, "broken")))
    await cache.put("a", make_rendition(BODY))

    assert (cache.statistics().entries, files_below(tmp_path)) == (0, [])


async def test_a_sweep_under_way_does_not_outlive_the_cache(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(files, "BATCH", 1)
    monkeypatch.setattr(files, "PAUSE_SECONDS", 0.05)
    for number in range(100):
        await cache.put(str(number), make_rendition(BODY))
    begun = threading.Event()
    sweeping = asyncio.create_task(cache.sweep(lambda expires, generations: begun.set() or True))
    await eventually(begun.is_set)
    await cache.close()

    await asyncio.wait_for(sweeping, 1)


@pytest.mark.parametrize("unlink_seconds", [0, 0.001])
async def test_many_writers_at_once_keep_the_cap_and_the_count(tmp_path, monkeypatch, unlink_seconds):
    unlink = disk_store.Shelf._unlink
    monkeypatch.setattr(
        disk_store.Shelf, "_unlink", lambda self, name: time.sleep(unlink_seconds) or unlink(self, name)
    )
    cache = await opened(tmp_path, limit_bytes=20 * FILE_BYTES)
    for _ in range(5):
        await asyncio.gather(*(cache.put(str(number % 40), make_rendition(BODY)) for number in range(CALLS)))
        await asyncio.gather(*(cache.drop(str(number)) for number in range(0, 40, 3)))

    found = files_below(tmp_path)
    assert 0 < len(found) <= 20
    assert cache.statistics().entries == len(found)
    assert cache.statistics().bytes == len(found) * FILE_BYTES


async def test_a_closed_cache_misses(tmp_path):
    cache = await opened(tmp_path)
    await cache.put("a", make_rendition(BODY))
    await cache.close()

    assert await cache.get("a") is None
    assert not await cache.put("a", make_rendition(BODY))
    assert await cache.sweep(lambda expires, generations: True) == SweepResult(incomplete="failed")


def _file_of(cache: DiskTier, path: Path, key: str) -> Path:
    name = files.name_of(key)
    return path.rglob(name[4:]).__next__()
