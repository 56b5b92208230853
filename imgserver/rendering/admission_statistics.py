"""What admission reports of itself, for metrics and health."""

from collections.abc import Mapping
from dataclasses import dataclass

SHED_REASONS = ("full", "predicted_wait", "fair_share", "deadline", "memory", "drain")


@dataclass(frozen=True, slots=True)
class AdmissionStatistics:
    waiting: int
    """Tickets without a worker: fetching their original, or waiting."""
    waiting_by_class: Mapping[str, int]
    """The same, by lower-case name of the class."""
    running: int
    """Tickets that hold a worker."""
    slots: int
    """Tickets that may hold a worker at the same time."""
    limit: int
    """Tickets that may wait."""
    predicted_wait_seconds: float
    """How long a NORMAL ticket would wait for a worker whose client sent all the tickets that wait now."""
    oldest_wait_seconds: float
    """Age of the oldest waiting ticket; 0 if no ticket waits."""
    decoded_bytes_in_flight: int
    """Estimated bytes of pixels held by running renders."""
    decoded_bytes_limit: int
    """The budget for decoded bytes."""
    shed: Mapping[str, int]
    """Refusals since the start, by those of SHED_REASONS that occurred."""
    admitted: int
    """Tickets granted since the start."""
    standing: bool
    """Whether the queue is a standing queue; the newest requests are served first then."""
    overloaded: bool
    """Whether predicted waits exceeded the deadline and the queue is not yet worked off; only waits up to half of the
    deadline are admitted then."""
    draining: bool
    """Whether every new request is refused."""
