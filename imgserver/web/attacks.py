"""Which errors are attacks, or look like them: told to the audit where errors become answers, off the way of a hit."""

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
    OutputOverLimit,
    QuotaExceeded,
    SignatureRefused,
    SourceDenied,
    TargetTooLong,
    UnsupportedImage,
)
from imgserver.observability.audit import OTHER, Audit, Event
from imgserver.web.middleware import Watch

# Names and ids, fit for a log.
SHOWN = ("key", "source")

_LIMITS: Mapping[str, str] = {
    "source bytes": "bytes",
    "source side": "side",
    "source pixels": "pixels",
    "frames": "frames",
    "decoded bytes": "decoded",
    "result bytes": "result",
    "memory": "decoded",
}
_LOADERS = {"svg": "svg", "heic": "heic"}

# What an error says to the audit: the event, and its reason or where the reason stands among the error's facts.
# Keys and uploads are audited where they are judged.
_AUDITED: Mapping[type[Exception], Callable[[Mapping[str, Any]], tuple[Event, str] | None]] = {
    AddressDenied: lambda facts: ("address_denied", facts["list"]),
    BadSourcePath: lambda _: ("path_rejected", "malformed"),
    NotFound: lambda facts: ("path_rejected", "outside") if facts.get("outside") else None,
    ImageOverLimit: lambda facts: ("limit_exceeded", _LIMITS.get(facts.get("limit", "memory"), OTHER)),
    OutputOverLimit: lambda _: ("limit_exceeded", "output"),
    TargetTooLong: lambda _: ("limit_exceeded", "target"),
    UnsupportedImage: lambda facts: ("loader_blocked", _LOADERS.get(facts.get("format", ""), "unsupported")),
    SignatureRefused: lambda facts: ("signature_rejected", facts.get("reason", OTHER)),
    Expired: lambda _: ("signature_expired", "expired"),
    # Who names no reason has told the audit himself.
    SourceDenied: lambda facts: ("source_denied", facts["reason"]) if "reason" in facts else None,
    QuotaExceeded: lambda facts: ("quota_exceeded", facts["reason"]) if "reason" in facts else None,
}


def of_errors(audit: Audit) -> Watch:
    """Tells the audit of errors that are attacks, or look like them."""

    def watch(request: web.Request, error: ImgserverError, request_id: str) -> None:
        told = _AUDITED.get(type(error))
        found = told(_facts(error)) if told else None
        if found is not None:
            shown = {name: error.facts[name] for name in SHOWN if name in error.facts}
            audit(found[0], reason=found[1], request_id=request_id, remote=request.remote, **shown)

    return watch


def _facts(error: BaseException) -> Mapping[str, Any]:
    """Its own, and those of the one that it retells."""
    own = error.facts if isinstance(error, ImgserverError) else {}
    return {**_facts(error.__cause__), **own} if isinstance(error.__cause__, type(error)) else own
