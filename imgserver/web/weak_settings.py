"""Settings that weaken security. They are audited and not refused, because each may be intended."""

from collections.abc import Callable, Iterator

from imgserver.observability.audit import Audit
from imgserver.security.policy import Policy
from imgserver.settings.schema import Settings

# The length of a generated key. The setting itself accepts shorter keys.
STRONG_KEY_CHARACTERS = 32


class WeakSettingsAudit:
    """Audits a weakness when it appears: at the start, and again when a reload brings it back."""

    def __init__(self, audit: Audit, policy: Callable[[], Policy]) -> None:
        """`policy` returns the policy in force."""
        self._audit = audit
        self._policy = policy
        self._known: set[tuple[str, str]] = set()

    def report(self, settings: Settings) -> None:
        """Audits the weaknesses of these settings that the settings of the last call did not have."""
        weaknesses = dict.fromkeys(find_weaknesses(settings, self._policy()))
        for reason, detail in weaknesses:
            if (reason, detail) not in self._known:
                self._audit("config_weak", reason=reason, detail=detail)
        self._known = set(weaknesses)


def find_weaknesses(settings: Settings, policy: Policy) -> Iterator[tuple[str, str]]:
    """Yields each weakness as the reason of a `config_weak` event and a sentence for people."""
    if settings.limits.svg:
        yield "svg_on", "SVG originals are rendered: one filter may take the whole deadline of a render"
    if settings.admin.key and len(settings.admin.key) < STRONG_KEY_CHARACTERS:
        yield "admin_key_short", f"admin.key has fewer than {STRONG_KEY_CHARACTERS} characters"
    if settings.remote.allowed_networks:
        yield "private_networks", "remote URLs may reach the networks of remote.allowed_networks, which are not public"
    if settings.server.is_local:
        return
    bounded = settings.native.snap_widths and settings.quota.renditions_per_minute
    if not (settings.signing.mode == "required" or settings.native.presets_only or bounded):
        yield "unsigned_public", "any client may request any number of sizes of each image"
    if settings.http.metrics_public:
        yield "metrics_public", "http.metrics_public shows /metrics to every client"
    if policy.proxies.hops:
        yield (
            "proxies_unknown",
            "proxies.hops trusts every peer: clients must reach the server through the proxies only",
        )
