"""What of a configuration is weak: told at the start, and not refused, because each may be meant."""

from collections.abc import Callable, Iterator

from imgserver.observability.audit import Audit
from imgserver.security.policy import Policy
from imgserver.settings.schema import Settings

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
