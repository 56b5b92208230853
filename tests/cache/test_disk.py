"""The disk tier on real folders, real kills and a real full file system where one can be mounted."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest

from imgserver.cache import disk_store
from imgserver.cache.disk import MAX_CALLS, DiskSettings, DiskTier
from imgserver.cache.tier import SweepResult
from imgserver.runtime import file_store, files
from imgserver.runtime.file_store import BLOCK_BYTES
from imgserver.testing import TierContract, make_rendition
from tests.polling import eventually

BODY = b"\xffpicture\x00" * 300
FILE_BYTES = BLOCK_BYTES


async def opened(path: Path, **settings) -> DiskTier:
    tier = DiskTier(DiskSettings(path=path, **settings))
    await tier.start()
    await tier.wait_scanned()
    return tier


@pytest.fixture
async def tier(tmp_path):
    tier = await opened(tmp_path / "cache")
    yield tier
    await tier.close()


def files_below(path: Path) -> list[Path]:
    return sorted(found for found in path.rglob("*") if found.is_file())


class TestContract(TierContract):
    @pytest.fixture
    async def tier(self, tmp_path):
        tier = await opened(tmp_path / "cache")
        yield tier
        await tier.close()


async def test_records_survive_a_restart(tmp_path):
    first = await opened(tmp_path)
    await first.put("a", make_rendition(BODY))
    await first.close()
    second = await opened(tmp_path)

    assert await second.get("a") == make_rendition(BODY)
    assert second.statistics().entries == 1
    assert second.statistics().bytes == FILE_BYTES


async def test_the_least_recently_used_file_is_evicted_at_the_byte_limit(tmp_path):
    tier = await opened(tmp_path, limit_bytes=3 * FILE_BYTES)
    for key in ("old", "used", "new"):
        await tier.put(key, make_rendition(BODY))
    await tier.get("old")
    await tier.put("newest", make_rendition(BODY))

    assert [await tier.get(key) is not None for key in ("old", "used", "new", "newest")] == [True, False, True, True]
    assert sum(path.stat().st_blocks * 512 for path in files_below(tmp_path)) <= 3 * FILE_BYTES
    assert tier.statistics().evictions == 1


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


async def test_a_smaller_limit_after_a_restart_holds_immediately(tmp_path):
    first = await opened(tmp_path)
    for number in range(10):
        await first.put(str(number), make_rendition(BODY))
    await first.close()
    await opened(tmp_path, limit_bytes=4 * FILE_BYTES)

    assert len(files_below(tmp_path)) == 4


async def test_a_body_beyond_the_limit_is_not_stored(tmp_path):
    tier = await opened(tmp_path, item_bytes=100)

    assert not await tier.put("a", make_rendition(b"x" * 101))
    assert +Counter(tier.statistics().dropped_writes) == {"size": 1}
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
async def test_a_corrupt_file_is_a_miss_is_removed_and_is_counted(tmp_path, tier, spoil, reason):
    await tier.put("a", make_rendition(BODY))
    (path,) = files_below(tmp_path)
    path.write_bytes(spoil(path.read_bytes()))

    assert await tier.get("a") is None
    assert files_below(tmp_path) == []
    assert +Counter(tier.statistics().corrupt) == {reason: 1}
    assert (tier.statistics().entries, tier.statistics().bytes) == (0, 0)
    assert await tier.put("a", make_rendition(BODY))
    assert await tier.get("a") is not None


async def test_another_keys_file_under_this_name_is_never_served(tmp_path, tier):
    await tier.put("a", make_rendition(b"a"))
    await tier.put("b", make_rendition(b"b"))
    path_a, path_b = (_file_of(tier, tmp_path, key) for key in "ab")
    path_a.write_bytes(path_b.read_bytes())

    assert await tier.get("a") is None
    assert +Counter(tier.statistics().corrupt) == {"key": 1}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/passwd")])
async def test_fifos_folders_and_links_neither_block_nor_are_read(tmp_path, tier, make):
    await tier.put("a", make_rendition(BODY))
    (path,) = files_below(tmp_path)
    path.unlink()
    make(path)

    async with asyncio.timeout(1):
        assert await tier.get("a") is None
    assert tier.statistics().hits == 0


async def test_an_endless_file_is_not_read_whole(tmp_path):
    tier = await opened(tmp_path, item_bytes=1000)
    await tier.put("a", make_rendition(b"a"))
    (path,) = files_below(tmp_path)
    os.truncate(path, 1 << 40)

    assert await tier.get("a") is None
    assert files_below(tmp_path) == []


async def test_a_vanished_folder_is_made_again(tmp_path):
    tier = await opened(tmp_path / "cache")
    await tier.put("a", make_rendition(BODY))
    for path in sorted((tmp_path / "cache").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "cache").rmdir()

    assert await tier.get("a") is None
    assert await tier.put("a", make_rendition(BODY))
    assert await tier.get("a") is not None


async def test_the_scan_removes_temporary_files_and_no_foreign_ones(tmp_path):
    first = await opened(tmp_path)
    await first.put("a", make_rendition(BODY))
    (path,) = files_below(tmp_path)
    left, foreign = path.with_name(path.name + ".1-2.tmp"), tmp_path / "notes.txt"
    left.write_bytes(b"half")
    foreign.write_bytes(b"mine")
    await opened(tmp_path)

    assert files_below(tmp_path) == sorted([path, foreign])


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
async def test_a_write_error_pauses_writes_for_a_minute_but_not_reads(tmp_path, monkeypatch, fault):
    now = 100.0
    tier = DiskTier(DiskSettings(path=tmp_path), clock=lambda: now)
    await tier.start()
    await tier.wait_scanned()
    await tier.put("a", make_rendition(BODY))
    tries = []

    def refuse(file, data):
        tries.append(file.write(data[:10]))
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(files, "write_all", refuse)
    answers = [await tier.put(key, make_rendition(BODY)) for key in "bcd"]

    assert answers == [False] * 3
    assert tries == [10]
    assert tier.statistics().degraded
    assert +Counter(tier.statistics().dropped_writes) == {"error": 1, "paused": 2}
    assert await tier.get("a") is not None
    assert len(files_below(tmp_path)) == 1
    assert tier.statistics().bytes == FILE_BYTES

    monkeypatch.undo()
    now += 61
    assert await tier.put("b", make_rendition(BODY))


async def test_too_many_open_files_do_not_pause_writes(tmp_path, tier, monkeypatch):
    def refuse(file, data):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(files, "write_all", refuse)

    assert not await tier.put("a", make_rendition(BODY))
    assert not tier.statistics().degraded


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
    tier = await opened(small_disk / "cache")
    body = os.urandom(20_000)
    kept = [await tier.put(str(number), make_rendition(body)) for number in range(20)]
    found = [await tier.get(str(number)) for number in range(20)]

    assert 5 < sum(kept) < 20
    assert [rendition is not None for rendition in found] == kept
    assert tier.statistics().degraded
    assert not [path for path in files_below(small_disk) if path.suffix == ".tmp"]


async def test_a_read_only_disk_is_read(small_disk):
    first = await opened(small_disk / "cache")
    await first.put("a", make_rendition(BODY))
    await first.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    tier = await opened(small_disk / "cache")

    assert await tier.get("a") is not None
    assert not await tier.put("b", make_rendition(BODY))
    assert tier.statistics().degraded


async def test_an_unusable_folder_is_a_tier_that_misses(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    tier = DiskTier(DiskSettings(path=tmp_path / "file" / "cache"))
    await tier.start()
    with pytest.raises(OSError, match="Not a directory"):
        await tier.wait_scanned()

    assert await tier.get("a") is None
    assert not await tier.put("a", make_rendition())
    assert caplog.messages == ["disk_cache.unavailable"]


async def test_a_stalled_disk_costs_one_deadline_and_then_nothing(tmp_path, monkeypatch):
    tier = await opened(tmp_path, timeout_seconds=0.05)
    await tier.put("a", make_rendition(BODY))
    resumed = threading.Event()
    monkeypatch.setattr(disk_store.RecordStore, "_read", lambda self, name, limit: resumed.wait(30) and b"")
    found = await asyncio.gather(*(tier.get("a") for _ in range(MAX_CALLS)))
    async with asyncio.timeout(0.5):
        found += await asyncio.gather(*(tier.get("a") for _ in range(MAX_CALLS)))
    statistics = tier.statistics()
    resumed.set()
    monkeypatch.undo()

    assert found == [None] * 2 * MAX_CALLS
    assert statistics.timeouts >= MAX_CALLS
    await eventually(lambda: tier._threads._free_places._value == MAX_CALLS)


WRITER = """
import asyncio, sys
from pathlib import Path
from imgserver.cache.disk import DiskTier, DiskSettings
from imgserver.testing import make_rendition

async def main():
    tier = DiskTier(DiskSettings(path=Path(sys.argv[1])))
    await tier.start()
    await tier.wait_scanned()
    number = 0
    while True:
        await asyncio.gather(*(tier.put(str(number + i), make_rendition(bytes([i]) * 200_000)) for i in range(4)))
        number += 4
        print(number, flush=True)

asyncio.run(main())
"""


async def test_a_writer_killed_at_any_moment_leaves_whole_records(tmp_path):
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        written = [int(writer.stdout.readline()) for _ in range(5)][-1]
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        tier = await opened(tmp_path)
        found = [await tier.get(str(number)) for number in range(written)]

        assert all(rendition is not None for rendition in found)
        assert {rendition.body for rendition in found} == {bytes([i]) * 200_000 for i in range(4)}
        assert +Counter(tier.statistics().corrupt) == {}
        assert not [path for path in files_below(tmp_path) if path.suffix == ".tmp"]
        await tier.close()


async def test_a_sweep_removes_expired_invalid_and_unreadable_files(tmp_path, tier):
    await tier.put("keep", make_rendition(BODY, expires=200.0, generations=(("a", "new"),)))
    await tier.put("expired", make_rendition(BODY, expires=50.0, generations=(("a", "new"),)))
    await tier.put("purged", make_rendition(BODY, expires=200.0, generations=(("a", "old"),)))
    await tier.put("odd", make_rendition(BODY, expires=200.0))
    _file_of(tier, tmp_path, "odd").write_bytes(b"odd")
    result = await tier.sweep(lambda expires, generations: expires > 100 and generations == (("a", "new"),))

    assert result == SweepResult(3)
    assert len(files_below(tmp_path)) == 1
    assert await tier.get("keep") is not None


async def test_a_sweep_reports_a_file_that_it_cannot_read_and_goes_on(tmp_path, tier):
    await tier.put("unread", make_rendition(BODY))
    await tier.put("gone", make_rendition(BODY))
    file = _file_of(tier, tmp_path, "unread")
    file.unlink()
    file.mkdir()

    assert await tier.sweep(lambda expires, generations: False) == SweepResult(1, "failed")


async def test_a_write_that_fails_leaves_no_file_that_is_not_counted(tmp_path, tier, monkeypatch):
    await tier.put("a", make_rendition(BODY))
    monkeypatch.setattr(files, "write_all", Mock(side_effect=OSError(errno.EIO, "broken")))
    await tier.put("a", make_rendition(BODY))

    assert (tier.statistics().entries, files_below(tmp_path)) == (0, [])


async def test_close_ends_a_running_sweep(tmp_path, tier, monkeypatch):
    monkeypatch.setattr(file_store, "PACE_FILES", 1)
    monkeypatch.setattr(file_store, "PACE_SECONDS", 0.05)
    for number in range(100):
        await tier.put(str(number), make_rendition(BODY))
    begun = threading.Event()
    sweeping = asyncio.create_task(tier.sweep(lambda expires, generations: begun.set() or True))
    await eventually(begun.is_set)
    await tier.close()

    await asyncio.wait_for(sweeping, 1)


@pytest.mark.parametrize("unlink_seconds", [0, 0.001])
async def test_concurrent_writers_keep_the_limit_and_the_count(tmp_path, monkeypatch, unlink_seconds):
    unlink = disk_store.RecordStore._unlink
    monkeypatch.setattr(
        disk_store.RecordStore, "_unlink", lambda self, name: time.sleep(unlink_seconds) or unlink(self, name)
    )
    tier = await opened(tmp_path, limit_bytes=20 * FILE_BYTES)
    for _ in range(5):
        await asyncio.gather(*(tier.put(str(number % 40), make_rendition(BODY)) for number in range(MAX_CALLS)))
        await asyncio.gather(*(tier.drop(str(number)) for number in range(0, 40, 3)))

    found = files_below(tmp_path)
    assert 0 < len(found) <= 20
    assert tier.statistics().entries == len(found)
    assert tier.statistics().bytes == len(found) * FILE_BYTES


async def test_a_closed_tier_misses(tmp_path):
    tier = await opened(tmp_path)
    await tier.put("a", make_rendition(BODY))
    await tier.close()

    assert await tier.get("a") is None
    assert not await tier.put("a", make_rendition(BODY))
    assert await tier.sweep(lambda expires, generations: True) == SweepResult(incomplete="failed")


def _file_of(tier: DiskTier, path: Path, key: str) -> Path:
    name = file_store.name_of(key)
    return path.rglob(name[4:]).__next__()
