"""Which refusals and settings are told to the audit."""

import pytest
from aiohttp.test_utils import make_mocked_request

from imgserver.dialects.native import NativeSettings
from imgserver.engine.job import Limits
from imgserver.errors import Expired, ImgserverError, NotFound, QuotaExceeded, SignatureRefused, SourceDenied
from imgserver.security.policy import Policy
from imgserver.security.rate_limit import QuotaSettings
from imgserver.security.signing import SigningSettings
from imgserver.settings.schema import HttpSettings, ServerSettings, Settings
from imgserver.web import security_events
from imgserver.web.weak_settings import find_weaknesses

PUBLIC = ServerSettings(host="0.0.0.0")


def events_of(error: ImgserverError) -> list[dict[str, object]]:
    heard: list[dict[str, object]] = []
    watch = security_events.error_observer(lambda event, **facts: heard.append({"event": event, **facts}))
    watch(make_mocked_request("GET", "/img/secret.jpg"), error, "id-1")
    return heard


@pytest.mark.parametrize(
    ("error", "event", "reason", "facts"),
    [
        (SignatureRefused("no", reason="wrong"), "signature_rejected", "wrong", {}),
        (
            SignatureRefused("no", reason="source", key="373a1c1c", source="shop", path="a.jpg"),
            "signature_rejected",
            "source",
            {"key": "373a1c1c", "source": "shop"},
        ),
        (SourceDenied("no", reason="circle"), "source_denied", "circle", {}),
        (Expired("over", reason="expired"), "signature_expired", "expired", {}),
        (QuotaExceeded("much", reason="renditions", retry_after=3), "quota_exceeded", "renditions", {}),
    ],
)
def test_a_refusal_at_the_door_is_an_event_of_names_and_ids(error, event, reason, facts):
    assert events_of(error) == [{"event": event, "reason": reason, "request_id": "id-1", "remote": None, **facts}]


def test_an_ordinary_refusal_is_none():
    assert events_of(NotFound()) == []


def test_who_names_no_reason_has_told_the_audit_already():
    assert events_of(QuotaExceeded("Too many wrong keys", retry_after=3)) == []


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        (Settings(), []),
        (Settings(server=PUBLIC, http=HttpSettings(metrics_public=False)), ["unsigned_public"]),
        (
            Settings(server=PUBLIC, http=HttpSettings(metrics_public=False), limits=Limits(svg=True)),
            ["svg_on", "unsigned_public"],
        ),
        (
            Settings(
                server=PUBLIC,
                http=HttpSettings(metrics_public=False),
                signing=SigningSettings("required", keys=("00" * 16,)),
            ),
            [],
        ),
        (
            Settings(server=PUBLIC, http=HttpSettings(metrics_public=False), native=NativeSettings(presets_only=True)),
            [],
        ),
        (
            Settings(server=PUBLIC, http=HttpSettings(metrics_public=False), native=NativeSettings(snap_widths=(100,))),
            ["unsigned_public"],
        ),
        (
            Settings(
                server=PUBLIC,
                http=HttpSettings(metrics_public=False),
                native=NativeSettings(snap_widths=(100,)),
                quota=QuotaSettings(120),
            ),
            [],
        ),
    ],
)
def test_weak_settings_are_told_at_the_start(settings, reasons):
    assert [reason for reason, _ in find_weaknesses(settings, Policy())] == reasons
