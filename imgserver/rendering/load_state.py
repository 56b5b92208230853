"""The state of the load, from what admission observes: whether the queue is a standing queue, and whether it is
overloaded. Times are seconds of the admission's clock."""

from imgserver.rendering.admission_settings import AdmissionSettings

# The share of the deadline below which the wait of all that is queued ends an overload.
RELIEF_SHARE = 0.25


class LoadState:
    """A standing queue has not been short for `standing_seconds`: its waits come from no burst (as in CoDel, RFC 8289).
    It is overloaded once requests have been refused for as long, until most of the queue is worked off."""

    def __init__(self, settings: AdmissionSettings, *, now: float) -> None:
        self._settings = settings
        self._short_at = now
        # The first refusal for a predicted wait since the queue was last worked off.
        self._refused_since: float | None = None

    def note_wait(self, now: float, oldest_wait: float, median_render: float) -> None:
        """The queue is short while its oldest ticket has waited for no longer than a median render."""
        if oldest_wait <= median_render:
            self._short_at = now

    def note_refusal(self, now: float) -> None:
        """A visitor's request was refused for its predicted wait."""
        if self._refused_since is None:
            self._refused_since = now

    @property
    def is_refusing(self) -> bool:
        """Whether a visitor's request was refused since the queue was last worked off."""
        return self._refused_since is not None

    def is_standing(self, now: float) -> bool:
        """Holds only while tickets wait."""
        return now - self._short_at > self._settings.standing_seconds

    def is_overloaded(self, now: float, backlog_wait: float) -> bool:
        """`backlog_wait`: seconds until the workers would have rendered all that waits."""
        if self._refused_since is None:
            return False
        if backlog_wait < RELIEF_SHARE * self._settings.deadline_seconds:
            self._refused_since = None
            return False
        return now - self._refused_since > self._settings.standing_seconds
