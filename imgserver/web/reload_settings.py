"""Reload of settings: signing keys, API keys and presets may change while the server runs.

The settings are read as at the start, from the same file, environment and options. One fault anywhere refuses all of
them. A change in any other section needs a restart, and the log names it.
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
from imgserver.settings.names import values
from imgserver.settings.schema import Settings

KEY_SECTIONS = ("signing", "admin", "api_keys")
RELOADED_SECTIONS = (*KEY_SECTIONS, "presets")


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
        self._installers: list[Callable[[Settings], None]] = []
        self._count(succeeded=True)

    def follow(self, install: Callable[[Settings], None]) -> None:
        """Has `install` put new settings into force. It must neither fail nor await, so that no request meets a
        mixture of old and new settings."""
        self._installers.append(install)

    async def reload(self) -> None:
        """Raises BadSettings; the old settings then stay in force."""
        succeeded = False
        try:
            read = await asyncio.to_thread(self._read)
            self._enforce(_with_reloaded_sections(self.current, read))
            succeeded = True
        except BadSettings as error:
            self._audit("settings_refused", reason="invalid", faults=len(error.facts["faults"]))
            raise
        finally:
            self._count(succeeded=succeeded)
        if pending := _changed_names(self.current, read):
            self._logger.warning("settings.restart_required", names=pending)

    def _enforce(self, settings: Settings) -> None:
        before, self.current = self.current, settings
        for install in self._installers:
            install(settings)
        if changed := _changed_names(before, settings):
            self._logger.info("settings.changed", names=changed)
        if any(getattr(before, section) != getattr(settings, section) for section in KEY_SECTIONS):
            self._audit(
                "keys_changed",
                reason="reload",
                mode=settings.signing.mode,
                signing=_key_ids(settings.signing.keys),
                before=_key_ids(before.signing.keys),
                api_keys=sorted(settings.api_keys),
            )

    def _count(self, *, succeeded: bool) -> None:
        self._metrics.settings_reloaded.set(succeeded)
        if succeeded:
            self._metrics.settings_reloaded_at.set(time.time())


def _with_reloaded_sections(current: Settings, read: Settings) -> Settings:
    """The settings in force with the new values of the reloaded sections. Raises BadSettings when the new values agree
    with the new file but not with the sections that wait for a restart."""
    try:
        return replace(current, **{section: getattr(read, section) for section in RELOADED_SECTIONS})
    except ValueError as fault:
        faults = tuple(f"{line} (while the other sections wait for a restart)" for line in str(fault).splitlines())
        raise BadSettings("\n".join(faults), faults=faults) from fault


def _changed_names(one: Settings, other: Settings) -> list[str]:
    """The names alone: some values are secrets."""
    here, there = values(one), values(other)
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))


def _key_ids(keys: Iterable[str]) -> list[str]:
    return [read_key(key).id for key in keys]
