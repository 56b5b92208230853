"""What SIGHUP reads again: the settings that may change while the server runs, and the security policy."""

from collections.abc import Callable

from imgserver.cache.redis.rate_limit import SharedTokenBuckets
from imgserver.rendering.upload_admission import Uploads
from imgserver.security.policy import Policy
from imgserver.security.rate_limit import ClientBuckets
from imgserver.service import ImageService
from imgserver.settings.schema import Settings
from imgserver.web.access import AccessPolicy
from imgserver.web.bootstrap.observability import Observability
from imgserver.web.middleware import Boundary
from imgserver.web.reload_policy import PolicyReload
from imgserver.web.reload_settings import SettingsReload


def make_settings_reload(
    settings: Settings, read_settings: Callable[[], Settings] | None, observability: Observability
) -> SettingsReload:
    """Without `read_settings` a reload finds the settings unchanged."""
    return SettingsReload(
        settings,
        read_settings or (lambda: settings),
        metrics=observability.metrics,
        audit=observability.audit,
        logger=observability.logger,
    )


def make_policy_reload(
    settings: Settings, boundary: Boundary, service: ImageService, uploads: Uploads, observability: Observability
) -> PolicyReload:
    """Reads the policy file and puts the policy into force. Raises BadPolicy."""
    redis = service.cache.redis_client
    buckets = ClientBuckets(SharedTokenBuckets(redis) if redis is not None else None)

    def install(policy: Policy) -> None:
        boundary.install(AccessPolicy(policy, buckets))
        service.renderer.format_policy.pixels, service.renderer.format_policy.formats = policy.pixels, policy.formats
        service.negative_cache.clear()
        uploads.limit(policy.uploads)

    return PolicyReload(
        settings.security.policy, install=install, metrics=observability.metrics, audit=observability.audit
    )
