"""The sources of a configuration by name, each made by the factory of its URL's scheme."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from imgserver.cache.cache_tags import ALL, Tags, groups_of, original_group
from imgserver.errors import ServerFault
from imgserver.observability.audit import Audit
from imgserver.plan import canonical
from imgserver.plan.plan import SourceRef
from imgserver.runtime.background import BackgroundTasks, OnTaskFailure, log_task_failure
from imgserver.security.remote_url import REMOTE
from imgserver.settings.schema import Settings
from imgserver.sources import Origin, Source, SourceContext
from imgserver.sources.config import SourceConfig
from imgserver.sources.origin_cache.fetch_queue import FetchEvent
from imgserver.sources.origin_cache.origin_cache import OriginCache, ignore_event
from imgserver.sources.origin_cache.settings import OriginCacheStatistics
from imgserver.sources.url_mapping import RemoteUrlMapping, remote_settings
from imgserver.web.bootstrap.cache import default_cache_folder

# The identity of the origin cache of whole URLs.
REMOTE_IDENTITY = "addresses"


class Sources:
    """All sources of the server. `writable` names those that take uploads. `remote` admits whole URLs; None if none are
    served. Use between `start` and `close`."""

    def __init__(
        self,
        by_name: Mapping[str, Source],
        *,
        writable: Collection[str],
        remote: RemoteUrlMapping | None,
        tags: Tags,
        identities: Mapping[str, str],
        on_task_failure: OnTaskFailure = log_task_failure,
    ) -> None:
        self.by_name = by_name
        self.writable = writable
        self.remote = remote
        self._tags = tags
        self._identities = identities
        self._invalidated = asyncio.Event()
        self._swept = asyncio.Event()
        self._tasks = BackgroundTasks(on_failure=on_task_failure)

    async def start(self) -> None:
        for source in self.by_name.values():
            await source.start()
        await self._tasks.start("origin_cache_sweep", self._sweep_invalidated)

    async def close(self) -> None:
        await self._tasks.close()
        await asyncio.gather(*(source.close() for source in self.by_name.values()))

    def statistics(self) -> Mapping[str, OriginCacheStatistics]:
        """Of each source that has an origin cache."""
        found = ((name, source.statistics()) for name, source in self.by_name.items())
        return {name: statistics for name, statistics in found if statistics is not None}

    def invalidate(self, groups: Collection[str]) -> None:
        """For a purge, at this server or another: no later request gets a cached original of these groups. A task in
        the background deletes them."""
        for name, source in self.by_name.items():
            source.invalidate(self._matcher(name, frozenset(groups)))
        self._swept.clear()
        self._invalidated.set()

    async def wait_swept(self, *, seconds: float) -> bool:
        """Waits until all invalidated originals are deleted: a restart would find them again. Returns whether they are
        within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._swept.wait()
        except TimeoutError:
            return False
        return True

    async def forget(self, original: SourceRef) -> None:
        """Deletes the cached copy of one original, for a purge."""
        source = self.by_name.get(original.source)
        if source is not None:
            await source.forget(original.path)

    async def _sweep_invalidated(self) -> None:
        while True:
            await self._invalidated.wait()
            self._invalidated.clear()
            errors = [error for source in self.by_name.values() if (error := await _sweep_error(source)) is not None]
            if errors:
                # The task is restarted and sweeps again.
                self._invalidated.set()
                raise errors[0]
            if not self._invalidated.is_set():
                self._swept.set()

    def _matcher(self, source: str, groups: frozenset[str]) -> Callable[[str], bool]:
        if ALL in groups:
            return lambda _: True
        return lambda path: not groups.isdisjoint(self._groups(SourceRef(source, path)))

    def _groups(self, original: SourceRef) -> tuple[str, ...]:
        identified = canonical.identified(original, self._identities)
        return (*groups_of(identified, tags=self._tags.of_path(original.path)), original_group(identified))


async def _sweep_error(source: Source) -> Exception | None:
    """Sweeps one source: the sweep of the others does not depend on it."""
    try:
        await source.sweep()
    except Exception as error:
        return error
    return None


def make_sources(
    settings: Settings,
    audit: Audit,
    observe: Callable[[FetchEvent], None] = ignore_event,
    on_task_failure: OnTaskFailure = log_task_failure,
) -> Sources:
    """`observe` is called after each request to an origin. Raises ServerFault for settings that make no source."""
    factory = _SourceFactory(settings, audit, observe, on_task_failure)
    configs = source_configs(settings)
    by_name = {name: factory.make(name, config) for name, config in configs.items()}
    remote = None
    if settings.remote.are_served:
        remote, by_name[REMOTE] = factory.make_remote()
    return Sources(
        by_name,
        writable=frozenset(name for name, config in configs.items() if config.writable),
        remote=remote,
        tags=Tags.of(settings.tags),
        identities=source_identities(settings),
        on_task_failure=on_task_failure,
    )


def make_source(name: str, settings: Settings, audit: Audit) -> Source:
    """One source of the configuration, without metrics. Raises ServerFault."""
    return _SourceFactory(settings, audit, ignore_event, log_task_failure).make(name, source_configs(settings)[name])


def make_remote(settings: Settings, audit: Audit) -> Source | None:
    """The source of whole URLs, without metrics; None if none are served. Raises ServerFault and ValueError."""
    factory = _SourceFactory(settings, audit, ignore_event, log_task_failure)
    return factory.make_remote()[1] if settings.remote.are_served else None


def source_configs(settings: Settings) -> Mapping[str, SourceConfig]:
    """All configured sources by name, the default one first."""
    return {settings.source.name: settings.source, **settings.sources}


def source_identities(settings: Settings) -> Mapping[str, str]:
    """By the name of each source, a digest of its name and of what it serves. The name is a part of it, because two
    sources with one URL may have different credentials. A whole URL identifies its server itself."""
    configs = source_configs(settings)
    return {name: canonical.digest(name, config.identity) for name, config in configs.items()}


@dataclass(frozen=True, slots=True)
class _SourceFactory:
    settings: Settings
    audit: Audit
    observe: Callable[[FetchEvent], None]
    on_task_failure: OnTaskFailure

    def make(self, name: str, config: SourceConfig) -> Source:
        """Raises ServerFault."""
        context = SourceContext(
            name=name,
            fetch=self.settings.fetch,
            max_concurrent=self.settings.origin_cache.max_concurrent,
            max_bytes=self.settings.origin_cache.item_bytes,
            audit=self.audit,
            cached=lambda origin: self._cached(origin, name, canonical.digest(name, config.identity)),
        )
        try:
            return config.row.make(config, context)
        except (ServerFault, ValueError) as error:
            raise ServerFault(f"source {name}: {error}") from error

    def make_remote(self) -> tuple[RemoteUrlMapping, Source]:
        """The source of whole URLs, and the mapping that admits them."""
        # aiohttp is imported only for sources that need it.
        from imgserver.sources.http import remote_origin

        origin_settings = remote_settings(self.settings.remote, self.settings.fetch, self.settings.origin_cache)
        mapping = RemoteUrlMapping(origin_settings, audit=self.audit)
        origin = remote_origin(origin_settings, mapping, audit=self.audit)
        return mapping, self._cached(origin, REMOTE, REMOTE_IDENTITY)

    def _cached(self, origin: Origin, name: str, identity: str) -> Source:
        """Each origin has a folder of its own: it would never find another origin's files, and they would take its
        space."""
        base = self.settings.origin_cache.path
        if base == Path():
            base = default_cache_folder(self.settings) / "originals"
        folder = base / sha256(identity.encode()).hexdigest()[:16]
        # All clients that wait for one slow origin may ask for a worker together: they must not fill that queue alone.
        max_waiting = min(self.settings.origin_cache.max_waiting, self.settings.queue.max_waiting)
        return OriginCache(
            origin,
            replace(self.settings.origin_cache, path=folder, max_waiting=max_waiting),
            name=name,
            identity=identity,
            timeout_seconds=self.settings.fetch.total_timeout_seconds,
            observe=self.observe,
            on_task_failure=self.on_task_failure,
        )
