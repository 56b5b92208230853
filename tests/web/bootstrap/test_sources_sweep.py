"""The background sweep of purged originals, without a server."""

from imgserver.cache.cache_tags import ALL, Tags
from imgserver.runtime import background
from imgserver.sources.origin_cache.origin_cache import OriginCache
from imgserver.sources.origin_cache.settings import OriginCacheSettings
from imgserver.testing import FakeOrigin
from imgserver.web.bootstrap.sources import Sources
from tests.polling import eventually


class FailsOnce(OriginCache):
    """An origin cache whose first sweep raises an unexpected exception."""

    sweeps = 0

    async def sweep(self) -> None:
        self.sweeps += 1
        if self.sweeps == 1:
            raise RuntimeError("bug")
        await super().sweep()


class AlwaysFails(OriginCache):
    async def sweep(self) -> None:
        raise RuntimeError("bug")


async def test_a_source_whose_sweep_fails_does_not_stop_the_sweep_of_the_others(tmp_path):
    origin = FakeOrigin({"cat.jpg": b"\xff\xd8\xff"})
    broken = AlwaysFails(FakeOrigin(), OriginCacheSettings(path=tmp_path / "broken"))
    working = OriginCache(origin, OriginCacheSettings(path=tmp_path / "working"))
    sources = Sources(
        {"broken": broken, "working": working},
        writable=(),
        remote=None,
        tags=Tags(),
        identities={},
        on_task_failure=lambda *_: None,
    )
    await sources.start()
    try:
        await working.fetch("cat.jpg")
        sources.invalidate([ALL])

        await eventually(lambda: working.statistics().entries == 0)
        assert not await sources.wait_swept(seconds=0.01)
    finally:
        await sources.close()


async def test_a_sweep_that_failed_is_reported_and_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.0)
    failures = []
    origin_cache = FailsOnce(FakeOrigin(), OriginCacheSettings(path=tmp_path))
    sources = Sources(
        {"shop": origin_cache},
        writable=(),
        remote=None,
        tags=Tags(),
        identities={},
        on_task_failure=lambda task, error: failures.append((task, str(error))),
    )
    await sources.start()
    try:
        sources.invalidate([ALL])

        assert await sources.wait_swept(seconds=10)
        assert failures == [("origin_cache_sweep", "bug")]
        assert origin_cache.sweeps == 2
    finally:
        await sources.close()
