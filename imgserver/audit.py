"""The audit: what happens at the doors, as `security.*` events in the log and as counts.

Facts are reasons, ids and names: never a key, a signature, a whole URL or a file's path on disk.
"""

from collections.abc import Callable
from typing import Any, Protocol

from structlog.typing import FilteringBoundLogger

from imgserver.logs import cut


class Audit(Protocol):
    """One event: `audit("auth_failed", reason="unknown_key", request_id=..., remote=...)`. Never raises."""

    def __call__(self, event: str, *, reason: str, **facts: Any) -> None: ...


def of(logger: FilteringBoundLogger, count: Callable[[str, str], None]) -> Audit:
    """`count(event, reason)` is told of each; both are words of ours, fit for labels."""

    def note(event: str, *, reason: str, **facts: Any) -> None:
        count(event, reason)
        shown = {name: cut(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        logger.warning(f"security.{event}", reason=reason, **shown)

    return note
