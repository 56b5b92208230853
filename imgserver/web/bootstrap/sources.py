"""The sources of a configuration, by name: folders as they are, all else behind a spool of its own."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from imgserver.cache.cache_tags import ALL, Tags, groups_of, original_group
from imgserver.errors import ServerFault
from imgserver.observability.audit import Audit
from imgserver.plan.plan import SourceRef
from imgserver.runtime.background import BackgroundTasks, OnTaskFailure, log_task_failure
from imgserver.security.remote_url import REMOTE
from imgserver.settings.schema import Settings
from imgserver.sources import Source, http
from imgserver.sources.config import SourceConfig
from imgserver.sources.folder import Folder
from imgserver.sources.object_store import ObjectStoreOrigin
from imgserver.sources.origin import Origin
from imgserver.sources.origin_cache.fetch_queue import FetchEvent
from imgserver.sources.origin_cache.origin_cache import OriginCache
from imgserver.sources.url_mapping import RemoteUrlMapping
from imgserver.web.bootstrap.cache import default_cache_folder

REMOTE_IDENTITY = "addresses"


class Sources:
    """`remote` admits whole addresses; None: none are served. Use between `start` and `close`."""

    def __init__(
        self,
        by_name: Mapping[str, Source],
        *,
        writable: Collection[str],
        remote: RemoteUrlMapping | None,
        tags: Tags,
        on_task_failure: OnTaskFailure = log_task_failure,
    ) -> None:
        self.by_name = by_name
        self.writable = writable
        self.remote = remote
        self._tags = tags
        self._told = asyncio.Event()
        self._swept = asyncio.Event()
        self._tasks = BackgroundTasks(on_failure=on_task_failure)

    async def start(self) -> None:
        for spool in self.spools.values():
            await spool.start()
        await self._tasks.start("origin_cache_sweep", self._sweep_what_is_forgotten)

    async def close(self) -> None:
        await self._tasks.close()
        for source in self.by_name.values():
            if isinstance(source, Folder):
                source.close()
        await asyncio.gather(*(spool.close() for spool in self.spools.values()))

    @property
    def spools(self) -> Mapping[str, OriginCache]:
        return {name: source for name, source in self.by_name.items() if isinstance(source, OriginCache)}

    def forget(self, groups: Collection[str]) -> None:
        """For a purge, here or at another server: from now on originals of these groups are downloaded again, whatever
        their origins said of their age. They are removed from the disk behind the caller's back."""
        for name, spool in self.spools.items():
            spool.condemn(self._rule(name, frozenset(groups)))
        self._swept.clear()
        self._told.set()

    async def swept(self, *, seconds: float) -> bool:
        """Waits until all that was forgotten is off the disk, where a restart would find it. False: it is not yet."""
        try:
            async with asyncio.timeout(seconds):
                await self._swept.wait()
        except TimeoutError:
            return False
        return True

    async def forget_one(self, ref: SourceRef) -> None:
        spool = self.spools.get(ref.source)
        if spool is not None:
            await spool.forget(ref.path)

    async def _sweep_what_is_forgotten(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            try:
                for spool in self.spools.values():
                    await spool.sweep()
            except Exception:
                # The task is restarted and sweeps again.
                self._told.set()
                raise
            if not self._told.is_set():
                self._swept.set()

    def _rule(self, source: str, groups: frozenset[str]) -> Callable[[str], bool]:
        if ALL in groups:
            return lambda _: True
        return lambda path: not groups.isdisjoint(self._groups(SourceRef(source, path)))

    def _groups(self, ref: SourceRef) -> tuple[str, ...]:
        return (*groups_of(ref, tags=self._tags.of_path(ref.path)), original_group(ref))


@dataclass(frozen=True, slots=True)
class _Observers:
    """Functions that each origin cache reports to."""

    observe: Callable[[FetchEvent], None]
    on_task_failure: OnTaskFailure


def make_sources(
    settings: Settings,
    audit: Audit,
    observe: Callable[[FetchEvent], None],
    on_task_failure: OnTaskFailure = log_task_failure,
) -> Sources:
    """Raises ServerFault where a folder is none, or a store cannot be made. `observe` is told of each question to a
    far source."""
    places: dict[str, SourceConfig] = {settings.source.name: settings.source, **settings.sources}
    observers = _Observers(observe, on_task_failure)
    made = {name: _source(name, place, settings, audit, observers) for name, place in places.items()}
    remote = None
    if settings.remote.are_served:
        site = settings.remote.site(settings.fetch, settings.origin_cache)
        remote = RemoteUrlMapping(site, audit=audit)
        made[REMOTE] = _spool(REMOTE, http.remote(site, remote, audit=audit), REMOTE_IDENTITY, settings, observers)
    writable = frozenset(name for name, place in places.items() if place.writable)
    tags = Tags.of(settings.tags)
    return Sources(made, writable=writable, remote=remote, tags=tags, on_task_failure=on_task_failure)


def make_origin(name: str, place: SourceConfig, settings: Settings, audit: Audit) -> Origin:
    """Of a place that is no folder. Raises ServerFault."""
    try:
        if place.kind == "http":
            return http.named(name, place.site(settings.fetch, settings.origin_cache), audit=audit)
        return ObjectStoreOrigin(place.store(settings.fetch))
    except (ServerFault, ValueError) as error:
        raise ServerFault(f"source {name}: {error}") from error


def _source(name: str, place: SourceConfig, settings: Settings, audit: Audit, observers: _Observers) -> Source:
    if place.kind != "folder":
        return _spool(name, make_origin(name, place, settings, audit), place.identity, settings, observers)
    try:
        return Folder(place.root, writable=place.writable)
    except ServerFault as error:
        raise ServerFault(f"source {name}: {error}") from error


def _spool(name: str, origin: Origin, identity: str, settings: Settings, observers: _Observers) -> OriginCache:
    """In a folder of this origin alone: what another has left there would never be found, and take room."""
    base = settings.origin_cache.path
    if base == Path():
        base = default_cache_folder(settings) / "originals"
    folder = base / sha256(identity.encode()).hexdigest()[:16]
    # All who waited for one slow origin may come for a worker at once: they must not fill the room by themselves.
    waiting = min(settings.origin_cache.max_waiting, settings.queue.max_waiting)
    own = replace(settings.origin_cache, path=folder, max_waiting=waiting)
    return OriginCache(
        origin,
        own,
        name=name,
        identity=identity,
        timeout_seconds=settings.fetch.total_timeout_seconds,
        observe=observers.observe,
        on_task_failure=observers.on_task_failure,
    )
