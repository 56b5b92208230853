"""The settings that change while serving: how URLs are signed, what presets mean, and whom API keys let in.

They are read again as they were at the start: the same file, environment and options. A fault anywhere refuses all of
it. What has changed in other sections waits for a restart, and the log names it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from structlog.typing import FilteringBoundLogger

from imgserver.observability.audit import Audit
from imgserver.observability.metrics import Metrics
from imgserver.security.signing import read_key
from imgserver.settings.loader import BadSettings
from imgserver.settings.schema import Settings, values

KEYS = ("signing", "admin", "api_keys")
SECTIONS = (*KEYS, "presets")


class Rereading:
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
