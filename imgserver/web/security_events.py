"""Which errors are attacks, or look like them: told to the audit where errors become answers, off the way of a hit."""

from collections.abc import Callable, Iterator, Mapping
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
from imgserver.security.policy import Policy
from imgserver.settings.schema import Settings
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


# What of a configuration is weak: told at the start, and not refused, because each may be meant.

# What `imgserver` would generate; the setting's own floor is lower.
GOOD_KEY_CHARACTERS = 32


def of(audit: Audit, policy: Callable[[], Policy]) -> Callable[[Settings], None]:
    """Tells what is weak by these settings and was not by those of before."""
    told: set[tuple[str, str]] = set()

    def warn(settings: Settings) -> None:
        nonlocal told
        found = dict.fromkeys(find(settings, policy()))
        for reason, sentence in found:
            if (reason, sentence) not in told:
                audit("config_weak", reason=reason, detail=sentence)
        told = set(found)

    return warn


def find(settings: Settings, policy: Policy) -> Iterator[tuple[str, str]]:
    """Reasons of `config_weak`, each with a sentence."""
    if settings.limits.svg:
        yield "svg_on", "SVG originals are drawn: a filter may take all of its deadline"
    if settings.admin.key and len(settings.admin.key) < GOOD_KEY_CHARACTERS:
        yield "admin_key_short", f"admin.key has fewer than {GOOD_KEY_CHARACTERS} characters"
    if settings.remote.networks:
        yield "private_networks", "addresses in URLs may lead to remote.networks, which are not public"
    if settings.server.is_local:
        return
    bounded = settings.native.snap_widths and settings.quota.renditions_per_minute
    if not (settings.signing.mode == "required" or settings.native.presets_only or bounded):
        yield "unsigned_public", "strangers may have as many sizes of each picture made as they like"
    if settings.http.metrics_public:
        yield "metrics_public", "/metrics answers everybody: http.metrics_public"
    if policy.proxies.hops:
        yield "proxies_unknown", "proxies.hops takes any peer's word: the server must not be reached but through them"
