"""The origin cache on real folders, in front of a fake origin."""

import asyncio
import errno
import os
import subprocess
import threading
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from imgserver.errors import (
    BrokenImage,
    DeadlineExceeded,
    ImageOverLimit,
    NotFound,
    SourceDenied,
    SourceFailed,
    Unavailable,
)
from imgserver.plan.rendition import CachePolicy
from imgserver.runtime import background
from imgserver.runtime.file_store import BLOCK_BYTES
from imgserver.sources.origin import OriginResponse, Validators
from imgserver.sources.origin_cache import store
from imgserver.sources.origin_cache.fetch_queue import FetchEvent
from imgserver.sources.origin_cache.invalidation import MAX_PENDING
from imgserver.sources.origin_cache.local_copies import THREADS
from imgserver.sources.origin_cache.origin_cache import OriginCache
from imgserver.sources.origin_cache.partial_folder import PARTIAL_DOWNLOADS
from imgserver.sources.origin_cache.settings import OriginCacheSettings
from imgserver.sources.source import REMOTE_ERRORS
from imgserver.testing import FakeOrigin, SourceContract
from tests.polling import eventually

PATH = "folder/cat.jpg"
CAT = b"\xff\xd8\xff a cat" * 1000
DOG = b"\xff\xd8\xff a dog" * 1000
KIB = 1024


class Scene:
    """An origin cache in front of a fake origin, with a wall clock that tests move."""

    def __init__(self, folder: Path, *, timeout_seconds: float = 8.0, **settings) -> None:
        self.now = 1_000_000.0
        self.timeout_seconds = timeout_seconds
        self.folder = folder / "originals"
        self.origin = FakeOrigin({PATH: CAT})
        self.events: list[FetchEvent] = []
        self.settings = OriginCacheSettings(path=self.folder, **{"default_ttl_seconds": 300, **settings})
        self.cache = self._cache()

    def _cache(self, identity: str = "") -> OriginCache:
        return OriginCache(
            self.origin,
            self.settings,
            name="shop",
            identity=identity,
            timeout_seconds=self.timeout_seconds,
            observe=self.events.append,
            clock=lambda: self.now,
        )

    async def start(self) -> None:
        await self.cache.start()
        await self.cache.scanned()

    async def restart(self, identity: str = "") -> None:
        await self.cache.close()
        self.cache = self._cache(identity)
        await self.start()

    async def read(self, path: str = PATH) -> bytes:
        async with self.cache.open(path) as original:
            body = Path(original.path).read_bytes()
            assert original.size_bytes == len(body)
            return body

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def partial_downloads(self) -> list[Path]:
        return [path for path in (self.folder / PARTIAL_DOWNLOADS).rglob("*") if path.is_file()]

    def disk_bytes(self) -> int:
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):
                total += -(-path.stat().st_size // BLOCK_BYTES) * BLOCK_BYTES if path.is_file() else 0
        return total


@pytest.fixture
async def make(tmp_path):
    scenes = []

    async def make(folder: Path = tmp_path, **settings) -> Scene:
        scenes.append(Scene(folder, **settings))
        await scenes[-1].start()
        return scenes[-1]

    yield make
    for scene in scenes:
        await scene.cache.close()


@pytest.fixture
async def scene(make):
    return await make()


class TestContract(SourceContract):
    @pytest.fixture
    async def source(self, make):
        scene = await make()
        scene.origin.files = {self.present: self.IMAGE}
        return scene.cache


class TestContractOfAnOriginThatTellsNothing(SourceContract):
    @pytest.fixture
    async def source(self, make):
        scene = await make()
        scene.origin.files, scene.origin.has_validators = {self.present: self.IMAGE}, False
        return scene.cache


# Downloads


async def test_concurrent_requests_share_one_download(scene):
    scene.origin.held = asyncio.Event()
    readers = [asyncio.create_task(scene.read()) for _ in range(12)]
    await eventually(lambda: scene.cache.statistics().waiting == 12)
    scene.origin.held.set()

    assert await asyncio.gather(*readers) == [CAT] * 12
    assert scene.origin.fetches == [PATH]
    assert scene.cache.statistics().coalesced == 11


async def test_a_request_that_missed_a_download_by_a_moment_does_not_repeat_it(scene, monkeypatch):
    """The copy is looked up in a thread: a download may end between the look-up and its result."""
    metadata, landed = scene.cache._copies.store.metadata, threading.Event()

    def slow_look_up(key: str) -> None:
        monkeypatch.setattr(scene.cache._copies.store, "metadata", metadata)
        assert landed.wait(10)

    monkeypatch.setattr(scene.cache._copies.store, "metadata", slow_look_up)
    slow = asyncio.create_task(scene.read())
    await eventually(lambda: scene.cache._copies.store.metadata == metadata)
    await scene.read()
    landed.set()

    assert await slow == CAT
    assert scene.origin.fetches == [PATH]


async def test_a_fresh_copy_is_opened_without_a_request(scene):
    await scene.read()
    scene.origin.fault = SourceFailed()

    assert await scene.read() == CAT
    assert scene.cache.statistics().hits == 1


async def test_copies_survive_a_restart(scene):
    before = await scene.cache.fingerprint(PATH)
    await scene.read()
    kept = scene.cache.statistics()
    await scene.restart()

    assert await scene.read() == CAT
    assert await scene.cache.fingerprint(PATH) == before
    assert scene.origin.fetches == [PATH]
    after = scene.cache.statistics()
    assert (after.entries, after.bytes) == (kept.entries, kept.bytes) == (1, scene.disk_bytes())


async def test_copies_of_another_origin_in_the_same_folder_are_not_used(scene):
    await scene.read()
    await scene.restart(identity="elsewhere")
    scene.origin.files[PATH] = DOG

    assert await scene.read() == DOG


async def test_an_original_has_the_metadata_of_its_response(scene):
    scene.origin.max_age_seconds = 77
    async with scene.cache.open(PATH) as original:
        assert (original.modified, original.max_age_seconds) == (1_700_000_000, 77)
        assert original.head == CAT[: 80 * KIB]


async def test_an_empty_original_is_stored(scene):
    scene.origin.files[PATH] = b""

    assert await scene.read() == b""


async def test_a_path_may_be_any_text(scene):
    paths = ["a", "ä b", "x" * 8000, "\udcff.jpg", "../../etc/passwd", "a\0b"]
    scene.origin.files = {path: str(number).encode() for number, path in enumerate(paths)}

    assert [await scene.read(path) for path in paths] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert all(path.is_relative_to(scene.folder) for path in scene.files())


# Clients that wait


async def test_a_cancelled_client_does_not_cancel_the_download_of_others(scene):
    scene.origin.held = asyncio.Event()
    first, second = (asyncio.create_task(scene.read()) for _ in range(2))
    await eventually(lambda: scene.cache.statistics().waiting == 2)
    first.cancel()
    await asyncio.wait([first])
    scene.origin.held.set()

    assert await second == CAT
    assert scene.origin.fetches == [PATH]


async def test_a_download_is_cancelled_and_deleted_with_its_last_client(scene):
    scene.origin.held = asyncio.Event()
    readers = [asyncio.create_task(scene.read()) for _ in range(3)]
    await eventually(scene.partial_downloads)
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)

    await eventually(lambda: not scene.origin.fetching and not scene.partial_downloads())
    assert scene.cache.statistics().bytes == scene.cache.statistics().waiting == 0


async def test_an_origin_gets_at_most_max_concurrent_requests(make):
    scene = await make(max_concurrent=3)
    scene.origin.files = {str(number): CAT for number in range(10)}
    scene.origin.held = asyncio.Event()
    readers = [asyncio.create_task(scene.read(path)) for path in scene.origin.files]
    await eventually(lambda: scene.cache.statistics().fetching == 3)
    scene.origin.held.set()

    assert await asyncio.gather(*readers) == [CAT] * 10
    assert scene.origin.most_fetching == 3


async def test_a_client_beyond_max_waiting_is_refused_immediately(make):
    scene = await make(max_waiting=4)
    scene.origin.files = {str(number): CAT for number in range(5)}
    scene.origin.held = asyncio.Event()
    readers = [asyncio.create_task(scene.read(str(number))) for number in range(4)]
    await eventually(lambda: scene.cache.statistics().waiting == 4)

    with pytest.raises(Unavailable) as refused:
        await asyncio.wait_for(scene.read("4"), 1)
    assert refused.value.facts["reason"] == "origin"
    assert 1 <= refused.value.facts["retry_after"] <= 30
    scene.origin.held.set()
    assert await asyncio.gather(*readers) == [CAT] * 4
    assert await scene.read("4") == CAT


async def test_stat_requests_leave_places_for_fetches(make):
    scene = await make(max_waiting=4)
    scene.origin.files = {str(number): CAT for number in range(5)}
    scene.origin.held = asyncio.Event()
    looks = [asyncio.create_task(scene.cache.fingerprint(str(number))) for number in range(2)]
    await eventually(lambda: scene.cache.statistics().waiting == 2)

    with pytest.raises(Unavailable):
        await scene.cache.fingerprint("3")
    reader = asyncio.create_task(scene.read("4"))
    await eventually(lambda: scene.cache.statistics().waiting == 3)
    scene.origin.held.set()
    assert await reader == CAT
    await asyncio.gather(*looks)


async def test_a_hanging_origin_times_out(make):
    scene = await make(timeout_seconds=0.05)
    scene.origin.held = asyncio.Event()

    with pytest.raises(DeadlineExceeded):
        await scene.read()
    assert not scene.partial_downloads()
    assert scene.events[-1].reason == "deadline-exceeded"


async def test_closing_ends_downloads_and_closes_the_origin(make):
    scene = await make()
    scene.origin.held = asyncio.Event()
    reader = asyncio.create_task(scene.read())
    await eventually(scene.partial_downloads)
    await scene.cache.close()

    with pytest.raises(Unavailable):
        await reader
    assert scene.origin.closed
    assert not scene.partial_downloads()


# Freshness


async def test_the_freshness_lifetime_is_clamped_to_the_settings(make):
    scene = await make(min_ttl_seconds=10, max_ttl_seconds=100, stale_while_revalidate_seconds=0)
    for told, lifetime in ((None, 100), (1, 10), (50, 50), (10_000, 100)):
        scene.origin.max_age_seconds = told
        path = f"of {told}"
        scene.origin.files[path] = CAT
        await scene.read(path)
        scene.now += lifetime - 0.5
        await scene.read(path)
        assert scene.origin.fetches.count(path) == 1, told
        scene.now += 1
        await scene.read(path)
        assert scene.origin.fetches.count(path) == 2, told


async def test_a_stale_copy_is_used_while_it_is_revalidated_in_the_background(scene):
    await scene.read()
    scene.now += 301
    scene.origin.held = asyncio.Event()

    assert await asyncio.wait_for(scene.read(), 1) == CAT
    await eventually(lambda: len(scene.origin.fetches) == 2)
    scene.origin.held.set()
    await eventually(lambda: scene.cache.statistics().revalidations == 1)
    await scene.read()
    assert len(scene.origin.fetches) == 2


async def test_a_changed_original_replaces_its_copy_in_the_background(scene):
    await scene.read()
    before = await scene.cache.fingerprint(PATH)
    scene.origin.files[PATH] = DOG
    scene.now += 301

    assert await scene.cache.fingerprint(PATH) == before
    await eventually(lambda: scene.cache.statistics().fetches == 2)
    assert await scene.cache.fingerprint(PATH) != before
    assert await scene.read() == DOG
    assert len(scene.files()) == 2


async def test_a_copy_beyond_stale_while_revalidate_waits_for_the_origin(scene):
    await scene.read()
    scene.origin.files[PATH] = DOG
    scene.now += 301 + scene.settings.stale_while_revalidate_seconds

    assert await scene.read() == DOG


@pytest.mark.parametrize("fault", [SourceFailed, DeadlineExceeded, Unavailable])
async def test_a_stale_copy_is_used_while_the_origin_fails_until_stale_if_error_ends(scene, fault):
    await scene.read()
    before = await scene.cache.fingerprint(PATH)
    scene.origin.fault = fault()
    scene.now += 301 + scene.settings.stale_while_revalidate_seconds

    assert await scene.read() == CAT
    assert await scene.cache.fingerprint(PATH) == before
    scene.now += scene.settings.stale_if_error_seconds
    with pytest.raises(fault):
        await scene.read()


async def test_an_original_that_is_never_fresh_is_validated_first_and_used_while_the_origin_fails(scene):
    scene.origin.max_age_seconds = 0
    await scene.read()
    scene.now += 1
    scene.origin.files[PATH] = DOG
    assert await scene.read() == DOG
    scene.now += 1
    scene.origin.fault = SourceFailed()

    assert await scene.read() == DOG


async def test_an_original_that_must_be_validated_is_not_used_while_the_origin_fails(scene):
    scene.origin.max_age_seconds, scene.origin.cache_policy = 60, CachePolicy.MUST_REVALIDATE
    await scene.read()
    scene.now += 59
    assert await scene.read() == CAT
    scene.now += 1
    scene.origin.fault = SourceFailed()

    with pytest.raises(SourceFailed):
        await scene.read()
    with pytest.raises(SourceFailed):
        await scene.cache.fingerprint(PATH)


UNSHARED = [CachePolicy.PRIVATE, CachePolicy.NO_STORE]


@pytest.mark.parametrize("policy", UNSHARED)
async def test_an_original_that_shared_caches_may_not_store_is_deleted_after_its_use(scene, policy):
    scene.origin.cache_policy = policy
    await scene.cache.fetch(PATH)
    async with scene.cache.open(PATH) as first:
        async with scene.cache.open(PATH) as second:
            assert first.cache_policy is second.cache_policy is policy
        assert Path(first.path).read_bytes() == CAT
        async with scene.cache.open(PATH):
            pass
    await eventually(lambda: not scene.files())

    assert len(scene.origin.fetches) == 1
    assert await scene.read() == CAT
    assert len(scene.origin.fetches) == 2


@pytest.mark.parametrize("policy", UNSHARED)
async def test_an_original_that_shared_caches_may_not_store_is_not_used_later(scene, policy):
    """A client that was cancelled between `fetch` and `open` leaves it."""
    scene.origin.cache_policy = policy
    await scene.cache.fetch(PATH)
    scene.now += 10
    scene.origin.fault = SourceFailed()

    with pytest.raises(SourceFailed):
        await scene.read()


@pytest.mark.parametrize("kind", REMOTE_ERRORS)
async def test_an_error_of_the_origin_is_one_of_the_contract_and_passes_through(scene, kind):
    scene.origin.fault = kind()
    for request in (scene.cache.fetch(PATH), scene.cache.fingerprint("folder/dog.jpg"), scene.read()):
        with pytest.raises(kind):
            await request


async def test_a_failed_origin_gets_no_further_request_within_the_retry_delay(scene):
    await scene.read()
    scene.origin.fault = SourceFailed()
    scene.now += 301 + scene.settings.stale_while_revalidate_seconds
    for _ in range(10):
        await scene.read()

    assert len(scene.origin.fetches) == 2


async def test_a_denied_original_is_not_served_from_its_copy(scene):
    await scene.read()
    scene.origin.fault = SourceDenied()
    scene.now += 301 + scene.settings.stale_while_revalidate_seconds

    with pytest.raises(SourceDenied):
        await scene.read()


async def test_the_copy_of_a_deleted_original_is_deleted(scene):
    await scene.read()
    del scene.origin.files[PATH]
    scene.now += 301 + scene.settings.stale_while_revalidate_seconds

    with pytest.raises(NotFound):
        await scene.read()
    assert not scene.files()
    assert scene.cache.statistics().bytes == 0


async def test_a_copy_validated_in_the_future_is_stale(scene):
    await scene.read()
    scene.now -= 3600

    assert await scene.read() == CAT
    await eventually(lambda: scene.cache.statistics().revalidations == 1)


async def test_not_found_is_cached(make):
    scene = await make(negative_ttl_seconds=60)
    for _ in range(3):
        with pytest.raises(NotFound):
            await scene.read("absent")
        with pytest.raises(NotFound):
            await scene.cache.fingerprint("absent")

    assert (scene.origin.fetches, scene.origin.stats) == (["absent"], [])


async def test_not_found_expires_and_failures_are_not_cached(make):
    scene = await make(negative_ttl_seconds=0)
    with pytest.raises(NotFound):
        await scene.read("new")
    scene.origin.fault = SourceFailed()
    with pytest.raises(SourceFailed):
        await scene.read("new")
    scene.origin.fault, scene.origin.files["new"] = None, CAT

    assert await scene.read("new") == CAT


# Fingerprints


async def test_a_stat_request_and_a_download_give_the_same_fingerprint(scene):
    looked = await scene.cache.fingerprint(PATH)

    async with scene.cache.open(PATH) as original:
        assert original.fingerprint == looked
    assert (scene.origin.stats, scene.origin.fetches) == ([PATH], [PATH])


async def test_a_chunked_body_has_the_fingerprint_of_a_stat_response_with_length(scene, monkeypatch):
    async def stat(path):
        return OriginResponse(Validators(modified=5, size_bytes=len(CAT)))

    async def fetch(path, sink, *, known=None):
        await sink(CAT)
        return OriginResponse(Validators(modified=5))

    monkeypatch.setattr(scene.origin, "stat", stat)
    monkeypatch.setattr(scene.origin, "fetch", fetch)
    looked = await scene.cache.fingerprint(PATH)

    async with scene.cache.open(PATH) as original:
        assert original.fingerprint == looked


async def test_metadata_is_fresh_for_as_long_as_a_copy(scene):
    for _ in range(3):
        await scene.cache.fingerprint(PATH)
    assert len(scene.origin.stats) == 1
    scene.now += 301
    scene.origin.held = asyncio.Event()

    await asyncio.wait_for(scene.cache.fingerprint(PATH), 1)
    await eventually(lambda: len(scene.origin.stats) == 2)


async def test_concurrent_stat_requests_are_one(scene):
    scene.origin.held = asyncio.Event()
    looks = [asyncio.create_task(scene.cache.fingerprint(PATH)) for _ in range(5)]
    await eventually(lambda: scene.cache.statistics().waiting == 5)
    scene.origin.held.set()

    assert len(set(await asyncio.gather(*looks))) == 1
    assert len(scene.origin.stats) == 1


async def test_without_validators_the_fingerprint_is_the_digest_of_the_bytes(scene):
    scene.origin.has_validators = False
    before = await scene.cache.fingerprint(PATH)
    async with scene.cache.open(PATH) as original:
        assert original.fingerprint == before
    assert scene.origin.fetches == [PATH]
    scene.now += 301 + scene.settings.stale_while_revalidate_seconds
    assert await scene.cache.fingerprint(PATH) == before
    scene.origin.files[PATH] = DOG
    scene.now += 301 + scene.settings.stale_while_revalidate_seconds

    assert await scene.cache.fingerprint(PATH) != before


async def test_a_fingerprint_of_a_stale_copy_does_not_wait_for_the_origin(scene):
    await scene.read()
    before = await scene.cache.fingerprint(PATH)
    scene.origin.held = asyncio.Event()
    scene.now += 301

    told = [await asyncio.wait_for(scene.cache.fingerprint(PATH), 0.5) for _ in range(20)]
    assert told == [before] * 20


async def test_a_slow_response_is_completed_after_its_client_was_cancelled(scene):
    await scene.read()
    scene.origin.files[PATH], scene.origin.held = DOG, asyncio.Event()
    scene.now += 301 + scene.settings.stale_while_revalidate_seconds
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.cache.fingerprint(PATH), 0.05)
    scene.origin.held.set()

    await eventually(lambda: scene.cache.statistics().fetches == 2)
    assert await scene.read() == DOG


async def test_a_failed_stat_request_is_not_repeated_within_the_retry_delay(scene):
    scene.origin.fault = SourceFailed()
    with pytest.raises(SourceFailed):
        await scene.cache.fingerprint(PATH)
    for _ in range(10):
        with pytest.raises(Unavailable):
            await scene.cache.fingerprint(PATH)

    assert len(scene.origin.stats) == 1
    with pytest.raises(SourceFailed):
        await scene.read()


async def test_a_slow_stat_response_is_completed_after_its_client_gave_up(scene):
    scene.origin.held = asyncio.Event()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.cache.fingerprint(PATH), 0.05)
    scene.origin.held.set()

    await eventually(lambda: scene.cache.statistics().stat_requests == 1)
    await scene.cache.fingerprint(PATH)
    assert len(scene.origin.stats) == 1


async def test_an_original_that_changes_constantly_never_has_the_fingerprint_of_another_state(make):
    scene = await make(min_ttl_seconds=0, default_ttl_seconds=0, stale_while_revalidate_seconds=1e6)
    seen: dict[str, bytes] = {}

    async def look_on() -> None:
        for _ in range(40):
            async with scene.cache.open(PATH) as original:
                body = Path(original.path).read_bytes()
                assert seen.setdefault(original.fingerprint, body) == body
            scene.now += 1

    async def change() -> None:
        for number in range(40):
            scene.origin.files[PATH] = b"state %d" % number * 100
            await asyncio.sleep(0.001)

    await asyncio.gather(change(), *(look_on() for _ in range(4)))
    assert len(seen) > 3


# The disk


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small file system, which reports its used space exactly."""
    mounts = []

    def mount(size: str) -> Path:
        mounts.append(tmp_path / f"disk{len(mounts)}")
        mounts[-1].mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", mounts[-1]]).returncode:
            mounts.pop()
            pytest.skip("only root can mount a small disk")
        return mounts[-1]

    yield mount
    for path in mounts:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def small_disk(mounted):
    return mounted("128k")


async def test_the_size_limit_includes_downloads_and_evicts_the_least_recently_used(make, mounted):
    scene = await make(mounted("2M"), limit_bytes=100 * KIB, item_bytes=20 * KIB)
    scene.origin.files = {str(number): bytes([number]) * 16 * KIB for number in range(30)}
    most, done = 0, False

    def watch() -> None:
        nonlocal most
        while not done:
            disk = os.statvfs(scene.folder)
            most = max(most, (disk.f_blocks - disk.f_bfree) * disk.f_frsize)

    watching = asyncio.create_task(asyncio.to_thread(watch))
    for path in scene.origin.files:
        await asyncio.gather(scene.read(path), scene.read("0"))
    done = True
    await watching

    assert 80 * KIB < most <= 100 * KIB
    assert scene.disk_bytes() <= scene.cache.statistics().bytes <= 100 * KIB
    assert scene.cache.statistics().evictions > 20
    assert scene.origin.fetches.count("0") == 1


async def test_the_order_of_use_survives_a_restart(make):
    scene = await make(limit_bytes=100 * KIB, item_bytes=20 * KIB)
    scene.origin.files = {str(number): bytes([number]) * 16 * KIB for number in range(6)}
    for path in "0123":
        await scene.read(path)
    for number, path in enumerate("0123"):
        kept = next(file for file in scene.files() if f'\\n{path}"'.encode() in file.read_bytes())
        os.utime(kept, (number, number))
    await scene.read("0")
    await scene.restart()
    await scene.read("4")
    await scene.read("5")
    await scene.read("0")

    assert scene.origin.fetches == [*"012345"]
    await scene.read("1")
    assert scene.origin.fetches == [*"0123451"]


async def test_an_open_original_is_not_evicted_and_a_download_without_space_is_refused(make):
    scene = await make(limit_bytes=50 * KIB, item_bytes=20 * KIB)
    scene.origin.files = {path: path.encode() * 16 * KIB for path in "abc"}
    async with scene.cache.open("a") as first, scene.cache.open("b") as second:
        with pytest.raises(Unavailable) as refused:
            await scene.read("c")
        assert refused.value.facts["reason"] == "origin_cache"
        assert Path(first.path).read_bytes() == b"a" * 16 * KIB
        assert Path(second.path).read_bytes() == b"b" * 16 * KIB
    assert not scene.partial_downloads()
    assert await scene.read("a") == b"a" * 16 * KIB
    assert scene.origin.fetches.count("a") == 1

    assert await scene.read("c") == b"c" * 16 * KIB


async def test_an_open_original_stays_readable_when_a_new_state_replaces_it(make):
    scene = await make(limit_bytes=100 * KIB, item_bytes=20 * KIB)
    async with scene.cache.open(PATH) as original:
        scene.origin.files[PATH] = DOG
        await scene.cache.forget(PATH)
        assert await scene.read() == DOG
        held = scene.cache.statistics().bytes

        assert Path(original.path).read_bytes() == CAT
        assert held == 2 * (12 * KIB + BLOCK_BYTES)
    await scene.cache.forget(PATH)
    await scene.read()
    assert scene.cache.statistics().bytes == 12 * KIB + BLOCK_BYTES


async def test_a_download_over_item_bytes_is_refused_and_deleted(make):
    scene = await make(item_bytes=len(CAT))
    scene.origin.files["large"] = CAT + b"x"

    assert await scene.read() == CAT
    with pytest.raises(ImageOverLimit):
        await scene.read("large")
    assert not scene.partial_downloads()
    assert scene.events[-1].reason == "image-over-limit"


async def test_an_interrupted_download_is_deleted(scene):
    scene.origin.held = asyncio.Event()
    reader = asyncio.create_task(scene.read())
    await eventually(scene.partial_downloads)
    scene.origin.fault = SourceFailed()
    scene.origin.held.set()

    with pytest.raises(SourceFailed):
        await reader
    assert not scene.files()
    assert scene.cache.statistics().bytes == 0


async def test_partial_downloads_of_a_killed_server_are_deleted_at_the_next_start(scene):
    (scene.folder / PARTIAL_DOWNLOADS / "dead").mkdir()
    (scene.folder / PARTIAL_DOWNLOADS / "dead" / "7").write_bytes(b"half")
    await scene.restart()

    assert not scene.files()


async def test_a_second_server_in_the_folder_keeps_the_partial_downloads_of_the_first(make):
    """Such as an old server that is ending, or two servers of one source on one machine."""
    first = await make()
    first.origin.held = asyncio.Event()
    reading = asyncio.create_task(first.read())
    await eventually(first.partial_downloads)
    second = await make()
    both = second.partial_downloads()
    first.origin.held.set()

    assert len(both) == 1
    assert await reading == CAT
    assert await second.read() == CAT
    assert second.origin.fetches == []
    await first.cache.forget(PATH)
    assert await second.read() == CAT
    assert second.origin.fetches == [PATH]


def body_of(scene: Scene) -> Path:
    (body,) = [file for file in scene.files() if file.suffix != store.METADATA]
    return body


@pytest.mark.parametrize("torn", [CAT[:-1], CAT[:-1] + b"!", b"", CAT + b"!"])
async def test_a_torn_copy_is_a_miss(scene, torn):
    await scene.read()
    body_of(scene).write_bytes(torn)

    assert await scene.read() == CAT
    assert scene.cache.statistics().corrupt == 1
    body_of(scene).write_bytes(torn)
    await scene.restart()
    assert await scene.read() == CAT
    assert len(scene.origin.fetches) == 3


@pytest.mark.parametrize("torn", [b"", b"0" * 40, b"[]"])
async def test_torn_metadata_is_a_miss(scene, torn):
    await scene.read()
    Path(f"{body_of(scene).with_suffix('')}{store.METADATA}").write_bytes(torn)

    assert await scene.read() == CAT
    assert len(scene.origin.fetches) == 2


async def test_a_copy_whose_bytes_cannot_be_read_is_not_a_broken_image(scene, monkeypatch):
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "I/O error")

    with pytest.raises(Unavailable), monkeypatch.context() as patched:
        async with scene.cache.open(PATH):
            patched.setattr(os, "pread", fail)
            raise BrokenImage()

    assert await scene.read() == CAT
    assert len(scene.origin.fetches) == 2


async def test_metadata_of_another_path_is_a_miss(scene):
    scene.origin.files["dog"] = DOG
    await scene.read()
    (cat,) = (file for file in scene.files() if file.suffix == store.METADATA)
    await scene.read("dog")
    (dog,) = (file for file in scene.files() if file.suffix == store.METADATA and file != cat)
    cat.write_bytes(dog.read_bytes())

    assert await scene.read() == CAT


@pytest.mark.parametrize("lost", ["bytes", "facts"])
async def test_a_body_or_metadata_without_the_other_is_deleted_at_the_next_start(scene, lost):
    await scene.read()
    for file in scene.files():
        if (file.suffix == store.METADATA) is (lost == "facts"):
            file.unlink()
    await scene.restart()

    assert not scene.files()
    assert await scene.read() == CAT


async def test_foreign_files_are_not_deleted(scene):
    other = scene.folder / "ab" / "cd" / "holiday.jpg"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    await scene.restart()

    assert other.read_bytes() == b"mine"


async def test_originals_are_fetched_again_after_the_folder_was_deleted(scene):
    await scene.read()
    subprocess.run(["rm", "-rf", scene.folder], check=True)

    assert await scene.read() == CAT
    assert await scene.read() == CAT
    assert len(scene.origin.fetches) == 2


async def test_no_descriptor_is_left_open(scene):
    await scene.read()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        await scene.read()
        with suppress(NotFound):
            await scene.read("absent")
    leaving = [asyncio.create_task(scene.read()) for _ in range(50)]
    for number, task in enumerate(leaving):
        for _ in range(number % 7):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait(leaving)

    await eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


async def test_a_large_original_is_streamed(make):
    scene = await make()

    async def fetch(path, sink, *, known=None):
        for _ in range(32 * 16):
            await sink(bytes(64 * KIB))
        return scene.origin.response(PATH)

    scene.origin.fetch = fetch
    tracemalloc.start()
    try:
        async with scene.cache.open(PATH) as original:
            assert original.size_bytes == 32 * KIB * KIB
        assert tracemalloc.get_traced_memory()[1] < 4 * KIB * KIB
    finally:
        tracemalloc.stop()


async def test_on_a_full_disk_copies_are_evicted_for_new_ones(make, small_disk):
    scene = await make(small_disk)
    scene.origin.files = {str(number): bytes([number]) * 30 * KIB for number in range(8)}

    for number in range(8):
        assert await scene.read(str(number)) == bytes([number]) * 30 * KIB
    assert scene.cache.statistics().evictions >= 5


async def test_an_original_larger_than_the_disk_is_refused_and_deleted(make, small_disk):
    scene = await make(small_disk)
    scene.origin.files["large"] = bytes(300 * KIB)

    with pytest.raises(Unavailable) as refused:
        await scene.read("large")
    assert (refused.value.status, refused.value.facts["reason"]) == (503, "disk")
    assert not scene.files()
    assert scene.cache.statistics().bytes == 0
    assert await scene.read() == CAT


async def test_copies_on_a_read_only_disk_are_served(make, small_disk, caplog):
    scene = await make(small_disk)
    await scene.read()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    scene.origin.files["dog"] = DOG

    assert await scene.read() == CAT
    for _ in range(3):
        with pytest.raises(Unavailable):
            await scene.read("dog")
    assert [record.error for record in caplog.records] == [os.strerror(errno.EROFS)]


async def test_an_unusable_folder_is_logged_and_fails_only_downloads(tmp_path, make, caplog):
    (tmp_path / "originals").write_text("a file")
    scene = await make()

    with pytest.raises(Unavailable):
        await scene.read()
    assert await scene.cache.fingerprint(PATH)
    assert len(caplog.messages) == 1


# Purges


async def test_a_forgotten_original_is_downloaded_again(scene):
    await scene.read()
    scene.origin.files[PATH] = DOG
    await scene.cache.forget(PATH)

    assert await scene.read() == DOG


async def test_a_sweep_deletes_only_matching_copies(scene):
    scene.origin.files["dog"] = DOG
    await scene.read()
    await scene.read("dog")
    kept = scene.files()
    scene.now += 1
    scene.cache.invalidate(lambda path: path.startswith("folder/"))
    await scene.cache.sweep()
    swept = scene.files()
    await scene.read()
    await scene.read("dog")

    assert (len(kept), len(swept)) == (4, 2)
    assert sorted(scene.origin.fetches) == ["dog", PATH, PATH]


async def test_an_invalidated_copy_is_not_served_before_it_is_deleted(scene):
    await scene.read()
    scene.origin.files[PATH] = DOG
    scene.now += 1
    scene.cache.invalidate(lambda path: path == PATH)

    assert await scene.read() == DOG

    await scene.cache.sweep()
    scene.origin.files[PATH] = CAT
    assert await scene.read() == DOG
    assert scene.origin.fetches == [PATH, PATH]


async def test_a_purge_that_cannot_judge_one_original_deletes_the_others(scene):
    scene.origin.files["odd.jpg"] = DOG
    await scene.read()
    await scene.read("odd.jpg")

    def matches(path: str) -> bool:
        if path == "odd.jpg":
            raise LookupError(path)
        return True

    scene.cache._copies.invalidate(matches, now=scene.now + 1)
    with pytest.raises(LookupError):
        await scene.cache.sweep()

    assert scene.cache.statistics().entries == 1


async def test_a_scan_that_failed_is_reported_and_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.0)
    before = Scene(tmp_path)
    await before.start()
    await before.read()
    await before.cache.close()
    scene, failures, real = Scene(tmp_path), [], store.OriginStore.scan

    def fail_once(self: store.OriginStore) -> None:
        if not failures:
            raise RuntimeError("bug")
        real(self)

    monkeypatch.setattr(store.OriginStore, "scan", fail_once)
    scene.cache._copies._tasks._on_failure = lambda task, error: failures.append((task, str(error)))
    await scene.start()

    assert failures == [("origin_cache_scan", "bug")]
    assert scene.cache.statistics().entries == 1
    await scene.cache.close()


async def test_too_many_pending_purges_become_one_of_everything(scene):
    await scene.read()
    scene.now += 1
    for number in range(MAX_PENDING + 1):
        scene.cache.invalidate(lambda path, number=number: path == str(number))
    await scene.read()

    assert scene.origin.fetches == [PATH, PATH]


async def test_a_request_after_a_purge_does_not_join_a_download_from_before(scene):
    scene.origin.held = asyncio.Event()
    before = asyncio.create_task(scene.read())
    await eventually(lambda: scene.origin.fetching == 1)
    scene.origin.files[PATH] = DOG
    await scene.cache.forget(PATH)
    after = asyncio.create_task(scene.read())
    await eventually(lambda: scene.origin.fetching == 2)
    scene.origin.held.set()

    await before
    assert await after == DOG
    assert await scene.read() == DOG


async def test_an_original_purged_during_its_download_is_downloaded_again(scene):
    scene.origin.held = asyncio.Event()
    before = asyncio.create_task(scene.read())
    await eventually(lambda: scene.origin.fetching == 1)
    scene.origin.files[PATH] = DOG
    await scene.cache.forget(PATH)
    scene.origin.held.set()
    assert await before == CAT

    assert await scene.read() == DOG


# Observation


async def test_every_request_to_the_origin_is_observed(scene):
    await scene.cache.fingerprint(PATH)
    await scene.read()
    scene.now += 301 + scene.settings.stale_while_revalidate_seconds
    await scene.read()
    scene.origin.fault = SourceFailed()
    with suppress(SourceFailed):
        await scene.read("other")

    observed = [(event.source, event.kind, event.reason, event.unchanged) for event in scene.events]
    assert observed == [
        ("shop", "stat", "", False),
        ("shop", "fetch", "", False),
        ("shop", "fetch", "", True),
        ("shop", "fetch", "source-failed", False),
    ]
    assert all(event.seconds >= 0 for event in scene.events)


async def test_the_repr_shows_the_state(scene):
    await scene.read()

    shown = "<OriginCache shop: 1 entries, 16384/2147483648 bytes, <FetchQueue fetching 0/32, waiting 0/128>>"
    assert repr(scene.cache) == shown


def test_contradictory_settings_are_refused():
    with pytest.raises(ValueError, match="item_bytes"):
        OriginCacheSettings(limit_bytes=KIB)
    with pytest.raises(ValueError, match="max_ttl_seconds"):
        OriginCacheSettings(min_ttl_seconds=10, max_ttl_seconds=5)


async def test_a_download_cancelled_twice_is_deleted(scene):
    """The second time while the partial download is being deleted."""
    scene.origin.held = asyncio.Event()
    reader = asyncio.create_task(scene.read())
    await eventually(scene.partial_downloads)
    busy = threading.Event()
    blockers = [scene.cache._copies._threads.submit(lambda: busy.wait(10)) for _ in range(THREADS)]
    reader.cancel()
    await asyncio.wait([reader])
    closing = asyncio.create_task(scene.cache.close())
    await eventually(lambda: scene.origin.closed)
    busy.set()
    await closing

    assert not scene.partial_downloads()
    await eventually(lambda: all(blocker.done() for blocker in blockers))
