"""Which refusals, and which settings at the start, are events of the audit. To add a refusal: its error's row here."""

from collections.abc import Iterator

from aiohttp import web

from imgserver.audit import Audit
from imgserver.errors import Expired, ImgserverError, QuotaExceeded, SignatureRefused
from imgserver.settings import Settings
from imgserver.web.middleware import Watch

EVENTS: dict[type[ImgserverError], str] = {
    SignatureRefused: "signature_rejected",
    Expired: "signature_expired",
    QuotaExceeded: "quota_exceeded",
}
# Names and ids, fit for a log.
SHOWN = ("key", "source")


def watched(audit: Audit) -> Watch:
    """The reason is the error's own word for it, if it has one."""

    def watch(request: web.Request, error: ImgserverError, request_id: str) -> None:
        event = EVENTS.get(type(error))
        if event is None:
            return
        facts = {name: error.facts[name] for name in SHOWN if name in error.facts}
        audit(
            event, reason=error.facts.get("reason", error.code), request_id=request_id, remote=request.remote, **facts
        )

    return watch


def weaknesses(settings: Settings) -> Iterator[str]:
    """What an owner may have wanted, and should know of."""
    bounded = settings.native.snap_widths and settings.quota.renditions_per_minute
    closed = settings.signing.mode == "required" or settings.native.presets_only
    if not (settings.server.is_local or closed or bounded):
        yield "unsigned_public"
    if settings.limits.svg:
        yield "svg"
