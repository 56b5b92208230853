"""Which errors are security events. Each is audited once, where the error becomes a response, so that a hit pays
nothing for it."""

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from imgserver.errors import (
    AddressDenied,
    BadSourcePath,
    Expired,
    ImageOverLimit,
    ImgserverError,
    NotFound,
    OriginalBusy,
    OutputOverLimit,
    QuotaExceeded,
    SignatureRefused,
    SourceDenied,
    TargetTooLong,
    UnsupportedImage,
)
from imgserver.observability.audit import OTHER, Audit, Event
from imgserver.web.middleware import ErrorObserver

# The facts of an error that its event repeats: names and ids, which may stand in a log.
LOGGED_FACTS = ("key", "source")

_LIMIT_REASONS: Mapping[str, str] = {
    "source bytes": "bytes",
    "source side": "side",
    "source pixels": "pixels",
    "frames": "frames",
    "decoded bytes": "decoded",
    "result bytes": "result",
    "memory": "decoded",
    "svg text bytes": "bytes",
    "pixels of images inside the svg": "pixels",
}
_LOADER_REASONS = {"svg": "svg", "heic": "heic"}

# The event and the reason for each class of error; None when this error is no security event. Refused keys and
# refused uploads are not here: web/auth.py and web/uploads/accounting.py audit them.
_EVENTS: Mapping[type[Exception], Callable[[Mapping[str, Any]], tuple[Event, str] | None]] = {
    AddressDenied: lambda facts: ("address_denied", facts["list"]),
    BadSourcePath: lambda _: ("path_rejected", "malformed"),
    NotFound: lambda facts: ("path_rejected", "outside") if facts.get("outside") else None,
    ImageOverLimit: lambda facts: ("limit_exceeded", _LIMIT_REASONS.get(facts.get("limit", "memory"), OTHER)),
    OutputOverLimit: lambda _: ("limit_exceeded", "output"),
    TargetTooLong: lambda _: ("limit_exceeded", "target"),
    UnsupportedImage: lambda facts: ("loader_blocked", _LOADER_REASONS.get(facts.get("format", ""), "unsupported")),
    SignatureRefused: lambda facts: ("signature_rejected", facts.get("reason", OTHER)),
    Expired: lambda _: ("signature_expired", "expired"),
    # An error without a reason was audited by the component that raised it.
    SourceDenied: lambda facts: ("source_denied", facts["reason"]) if "reason" in facts else None,
    OriginalBusy: lambda _: ("quota_exceeded", "renditions"),
    QuotaExceeded: lambda facts: ("quota_exceeded", facts["reason"]) if "reason" in facts else None,
}


def error_observer(audit: Audit) -> ErrorObserver:
    """Audits each error that is, or may be, an attack."""

    def observe(request: web.Request, error: ImgserverError, request_id: str) -> None:
        event_of = _EVENTS.get(type(error))
        found = event_of(_facts(error)) if event_of else None
        if found is not None:
            event, reason = found
            logged = {name: error.facts[name] for name in LOGGED_FACTS if name in error.facts}
            audit(event, reason=reason, request_id=request_id, remote=request.remote, **logged)

    return observe


def _facts(error: BaseException) -> Mapping[str, Any]:
    """The error's facts, and those of its cause when the cause is the same kind of error with another text."""
    own = error.facts if isinstance(error, ImgserverError) else {}
    return {**_facts(error.__cause__), **own} if isinstance(error.__cause__, type(error)) else own
