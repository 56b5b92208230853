"""The audit log: access-control and security events, as `security.*` events in the log and as counters.

The facts of an event are reasons, ids and names, never a key, a signature, a whole URL or a path on disk. Of a client's
address, the log holds the network only.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Literal, Protocol

from structlog.typing import FilteringBoundLogger

from imgserver.observability.logs import cut
from imgserver.security.networks import logged_network

Event = Literal[
    "signature_rejected",
    "signature_expired",
    "source_denied",
    "address_denied",
    "address_blocked",
    "redirect_denied",
    "path_rejected",
    "limit_exceeded",
    "loader_blocked",
    "upload_rejected",
    "render_killed",
    "key_quarantined",
    "auth_failed",
    "quota_exceeded",
    "admin_action",
    "keys_changed",
    "policy_changed",
    "policy_refused",
    "settings_refused",
    "config_weak",
]

# The reasons of every event. Each pair is a series from the start, at 0. Any other reason is counted as "other".
REASONS: Mapping[Event, tuple[str, ...]] = {
    "signature_rejected": ("missing", "wrong", "no_key", "source"),
    "signature_expired": ("expired",),
    "source_denied": ("no_remote", "not_listed", "port", "loop"),
    "address_denied": ("deny", "allow"),
    "address_blocked": (
        "unspecified",
        "loopback",
        "private",
        "link_local",
        "carrier_nat",
        "benchmarking",
        "documentation",
        "multicast",
        "cloud",
        "reserved",
        "site_local",
        "unique_local",
    ),
    "redirect_denied": ("malformed", "downgrade", "not_listed"),
    "path_rejected": ("malformed", "outside"),
    "limit_exceeded": ("target", "output", "bytes", "side", "pixels", "frames", "decoded", "result"),
    "loader_blocked": ("unsupported", "svg", "heic"),
    # The codes of the errors.
    "upload_rejected": (
        "bad-request",
        "bad-option",
        "bad-source-path",
        "output-over-limit",
        "malformed-request",
        "body-timeout",
        "conflict",
        "body-too-large",
        "unsupported-image",
        "broken-image",
        "frames-lost",
        "image-over-limit",
        "quarantined",
    ),
    "render_killed": ("timeout", "crash", "oom", "killed"),
    "key_quarantined": ("timeout", "crash", "oom", "killed"),
    "auth_failed": ("no_key", "malformed", "unknown_key", "missing_scope", "too_many"),
    "quota_exceeded": ("pictures", "uploads", "admin", "renditions"),
    "admin_action": ("purge", "sweep"),
    "keys_changed": ("reload",),
    "policy_changed": ("reload",),
    "policy_refused": ("invalid",),
    "settings_refused": ("invalid",),
    "config_weak": (
        "admin_key_short",
        "metrics_public",
        "private_networks",
        "proxies_unknown",
        "svg_on",
        "unsigned_public",
        "uploads_open",
    ),
}
OTHER = "other"

# Lines per second for one event and reason. The further events of that second are summed up in one line.
LINES_PER_SECOND = 10
PERIOD_SECONDS = 1.0
# Actions of operators: each is logged at level info. All other events are warnings.
INFORMATIONAL: frozenset[Event] = frozenset({"admin_action", "keys_changed", "policy_changed"})

# The id of the current request and the address of its client. Tasks that a request starts inherit them, so that a
# source, which knows nothing of requests, can name the client in its audit events.
REQUEST_CONTEXT: ContextVar[tuple[str, str | None] | None] = ContextVar("request_context", default=None)


def request_context() -> dict[str, Any]:
    """The facts `request_id` and `remote` of the current request; none outside of a request."""
    found = REQUEST_CONTEXT.get()
    return {} if found is None else {"request_id": found[0], "remote": found[1]}


class Audit(Protocol):
    """Reports one event: `audit("auth_failed", reason="unknown_key", request_id=..., remote=...)`. Never raises.

    `remote` is the whole address of the client; the log holds its network.
    """

    def __call__(self, event: Event, *, reason: str, **facts: Any) -> None: ...


def discard_event(event: Event, *, reason: str, **facts: Any) -> None:
    """An `Audit` for commands, which report errors to their user and have no log."""


def label_sets() -> tuple[tuple[str, str], ...]:
    """Every (event, reason) that can be counted."""
    return tuple((event, reason) for event, reasons in REASONS.items() for reason in (*reasons, OTHER))


class AuditLog:
    """The audit log of one server. Counts every event, and limits the lines per event and reason.

    `count(event, reason)` is called for every event with values that are fit for labels of a metric.
    """

    def __init__(
        self,
        logger: FilteringBoundLogger,
        count: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._count = count
        self._clock = clock
        self._periods: dict[tuple[Event, str], _Period] = {}

    def __call__(self, event: Event, *, reason: str, **facts: Any) -> None:
        known = reason if reason in REASONS.get(event, ()) else OTHER
        self._count(event, known)
        if event in INFORMATIONAL or self._is_within_limit(event, known):
            self._write(event, reason=cut(reason), **_loggable(facts))

    def close(self) -> None:
        """Writes the sums that are pending."""
        for kind in tuple(self._periods):
            self._sum_up(kind)

    def _is_within_limit(self, event: Event, reason: str) -> bool:
        kind, now = (event, reason), self._clock()
        period = self._periods.get(kind)
        if period is None or now - period.started >= PERIOD_SECONDS:
            self._sum_up(kind)
            period = self._periods[kind] = _Period(now)
        period.events += 1
        if period.events == LINES_PER_SECOND + 1:
            self._sum_up_later(kind, period)
        return period.events <= LINES_PER_SECOND

    def _sum_up_later(self, kind: tuple[Event, str], period: "_Period") -> None:
        """For the end of a flood, when no further event triggers the sum."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        period.timer = loop.call_later(PERIOD_SECONDS, self._sum_up, kind)

    def _sum_up(self, kind: tuple[Event, str]) -> None:
        period = self._periods.pop(kind, None)
        if period is None:
            return
        if period.timer is not None:
            period.timer.cancel()
        if period.events > LINES_PER_SECOND:
            event, reason = kind
            self._write(event, reason=reason, summed=period.events - LINES_PER_SECOND)

    def _write(self, event: Event, **facts: Any) -> None:
        write = self._logger.info if event in INFORMATIONAL else self._logger.warning
        write(f"security.{event}", **facts)


class _Period:
    """One second of one kind of event."""

    __slots__ = ("events", "started", "timer")

    def __init__(self, started: float) -> None:
        self.started = started
        self.events = 0
        self.timer: asyncio.TimerHandle | None = None


def _loggable(facts: Mapping[str, Any]) -> dict[str, Any]:
    loggable = {name: cut(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
    if "remote" in loggable:
        loggable["remote"] = logged_network(loggable["remote"])
    return loggable
