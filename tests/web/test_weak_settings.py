import pytest

from imgserver.dialects.native import NativeSettings
from imgserver.engine.job import Limits
from imgserver.security.policy import Policy, Proxies
from imgserver.security.rate_limit import QuotaSettings
from imgserver.security.signing import SigningSettings
from imgserver.settings.schema import AdminSettings, HttpSettings, ServerSettings, Settings
from imgserver.sources.config import RemoteSettings
from imgserver.web.weak_settings import find_weaknesses

PUBLIC = ServerSettings(host="0.0.0.0")
PRIVATE_METRICS = HttpSettings(metrics_public=False)
HOPS = Policy(proxies=Proxies(hops=1))


@pytest.mark.parametrize(
    ("settings", "policy", "reasons"),
    [
        (Settings(), Policy(), []),
        (Settings(), HOPS, []),
        (Settings(limits=Limits(svg=True)), Policy(), ["svg_on"]),
        (Settings(admin=AdminSettings("0123456789abcdef")), Policy(), ["admin_key_short"]),
        (Settings(admin=AdminSettings("planted-key-of-this-suite-0123456")), Policy(), []),
        (Settings(remote=RemoteSettings(allowed_networks=("10.0.0.0/8",))), Policy(), ["private_networks"]),
        (Settings(server=PUBLIC), HOPS, ["unsigned_public", "metrics_public", "proxies_unknown"]),
        (Settings(server=PUBLIC, http=PRIVATE_METRICS), Policy(), ["unsigned_public"]),
    ],
)
def test_weaknesses_are_found(settings, policy, reasons):
    assert [reason for reason, _ in find_weaknesses(settings, policy)] == reasons


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({"limits": Limits(svg=True)}, ["svg_on", "unsigned_public"]),
        ({"signing": SigningSettings("required", keys=("00" * 16,))}, []),
        ({"native": NativeSettings(presets_only=True)}, []),
        ({"native": NativeSettings(snap_widths=(100,))}, ["unsigned_public"]),
        ({"native": NativeSettings(snap_widths=(100,)), "quota": QuotaSettings(120)}, []),
    ],
)
def test_a_public_server_is_weak_while_its_renditions_are_unbounded(settings, reasons):
    found = find_weaknesses(Settings(server=PUBLIC, http=PRIVATE_METRICS, **settings), Policy())

    assert [reason for reason, _ in found] == reasons
