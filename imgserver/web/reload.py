"""The settings that change while serving: how URLs are signed, what presets mean, and whom API keys let in.

They are read again as they were at the start: the same file, environment and options. A fault anywhere refuses all of
it. What has changed in other sections waits for a restart, and the log names it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from imgserver.errors import ImgserverError
from imgserver.observability.audit import Audit
from imgserver.observability.metrics import Metrics
from imgserver.security.policy import Policy
from imgserver.security.signing import read_key
from imgserver.settings.loader import BadSettings
from imgserver.settings.policy_file import BadPolicy, load
from imgserver.settings.schema import Settings, values

KEYS = ("signing", "admin", "api_keys")
SECTIONS = (*KEYS, "presets")


class SettingsReload:
    """`current` are the settings in force."""

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        *,
        metrics: Metrics,
        audit: Audit,
        logger: FilteringBoundLogger,
    ) -> None:
        """`read` blocks, and raises BadSettings."""
        self.current = settings
        self._read = read
        self._metrics = metrics
        self._audit = audit
        self._logger = logger
        self._followers: list[Callable[[Settings], None]] = []
        self._mark(done=True)

    def follow(self, install: Callable[[Settings], None]) -> None:
        """`install` puts new settings into force; it neither fails nor awaits, so that no request meets old and new."""
        self._followers.append(install)

    async def reload(self) -> None:
        """Raises BadSettings; then the old ones stay in force."""
        done = False
        try:
            read = await asyncio.to_thread(self._read)
            self._enforce(_taken(self.current, read))
            done = True
        except BadSettings as error:
            self._audit("settings_refused", reason="invalid", faults=len(error.facts["faults"]))
            raise
        finally:
            self._mark(done=done)
        if waiting := _differing(self.current, read):
            self._logger.warning("settings.need_restart", names=waiting)

    def _enforce(self, settings: Settings) -> None:
        before, self.current = self.current, settings
        for install in self._followers:
            install(settings)
        if changed := _differing(before, settings):
            self._logger.info("settings.changed", names=changed)
        if any(getattr(before, section) != getattr(settings, section) for section in KEYS):
            self._audit(
                "keys_changed",
                reason="reload",
                mode=settings.signing.mode,
                signing=_key_ids(settings.signing.keys),
                before=_key_ids(before.signing.keys),
                api_keys=sorted(settings.api_keys),
            )

    def _mark(self, *, done: bool) -> None:
        self._metrics.settings_reloaded.set(done)
        if done:
            self._metrics.settings_reloaded_at.set(time.time())


def _taken(current: Settings, read: Settings) -> Settings:
    """What was read of our sections, beside all others as they are. They may go together in the file alone."""
    try:
        return replace(current, **{section: getattr(read, section) for section in SECTIONS})
    except ValueError as fault:
        faults = tuple(f"{line} (while the rest waits for a restart)" for line in str(fault).splitlines())
        raise BadSettings("\n".join(faults), faults=faults) from fault


def _differing(one: Settings, other: Settings) -> list[str]:
    """Names alone: some values are secrets."""
    here, there = values(one), values(other)
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))


def _key_ids(texts: Iterable[str]) -> list[str]:
    return [read_key(text).id for text in texts]


# What is read again while the server serves: on SIGHUP, each part in its turn, and a part that is refused stays.
#
# A part is an async function without arguments: it reads off the event loop, checks everything, and only then replaces
# what is in force, without awaiting in between. It raises an ImgserverError for what it refuses.

Reload = Callable[[], Awaitable[None]]

# A file system that hangs must not keep the other parts from being read.
PART_SECONDS = 10.0


class Reloader:
    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger
        self._parts: dict[str, Reload] = {}
        self._asked = asyncio.Event()

    def add(self, name: str, part: Reload) -> None:
        self._parts[name] = part

    def ask(self) -> None:
        """For the signal: returns at once. However often it comes during a run, one more run follows."""
        self._asked.set()

    async def work(self) -> None:
        """Reloader whenever it is asked to; for ever."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.run()

    async def run(self) -> bool:
        """Every part once. False: some part was refused."""
        done = [await self._reload(name, part) for name, part in self._parts.items()]
        self._logger.info("server.reloaded", parts=len(done), refused=done.count(False))
        return all(done)

    async def _reload(self, name: str, part: Reload) -> bool:
        try:
            async with asyncio.timeout(PART_SECONDS):
                await part()
        except ImgserverError as error:
            self._logger.error("reload.refused", part=name, detail=error.detail)
        except Exception as error:
            self._logger.error("reload.failed", part=name, exc_info=error)
        else:
            return True
        return False


# The policy in force, and its replacement by what the file says now.

# The label of a server without a file.
BUILT_IN = "built-in"


class PolicyReload:
    """`install` puts a policy into force; it neither fails nor awaits. Whoever needs a value reads `current` anew."""

    def __init__(self, path: Path, *, install: Callable[[Policy], None], metrics: Metrics, audit: Audit) -> None:
        """Reads the file; `Path()` is none. Raises BadPolicy."""
        self._path = path
        self._install = install
        self._metrics = metrics
        self._audit = audit
        self.current = load(path) if path != Path() else Policy()
        self._enforce(self.current)

    async def reload(self) -> None:
        """Raises BadPolicy; then the old one stays in force."""
        if self._path == Path():
            return
        try:
            policy = await asyncio.to_thread(load, self._path)
        except BadPolicy as error:
            self._metrics.policy_reloaded.set(0)
            self._audit("policy_refused", reason="invalid", faults=len(error.facts["faults"]))
            raise
        if policy != self.current:
            self._audit("policy_changed", reason="reload", digest=policy.digest, before=self.current.digest)
        self._enforce(policy)

    def _enforce(self, policy: Policy) -> None:
        self.current = policy
        self._install(policy)
        self._metrics.policy_info.clear()
        self._metrics.policy_info.labels(policy.digest or BUILT_IN).set(1)
        self._metrics.policy_reloaded.set(1)
        self._metrics.policy_reloaded_at.set(time.time())
