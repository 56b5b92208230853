"""The background sweep of purged originals, without a server."""

from imgserver.cache.cache_tags import ALL, Tags
from imgserver.runtime import background
from imgserver.sources.origin_cache.origin_cache import OriginCache
from imgserver.sources.origin_cache.settings import OriginCacheSettings
from imgserver.testing import FakeOrigin
from imgserver.web.bootstrap.sources import Sources


class FailsOnce(OriginCache):
    """An origin cache whose first sweep raises an unexpected exception."""

    sweeps = 0

    async def sweep(self) -> None:
        self.sweeps += 1
        if self.sweeps == 1:
            raise RuntimeError("bug")
        await super().sweep()


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
