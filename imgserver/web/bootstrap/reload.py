"""What SIGHUP reads again: the settings that may change while the server runs, and the security policy."""

from collections.abc import Callable

from imgserver.cache.redis.rate_limit import SharedTokenBuckets
from imgserver.rendering.upload_admission import UploadAdmission
from imgserver.security.policy import Policy
from imgserver.security.rate_limit import ClientRateLimiter
from imgserver.service import ImageService
from imgserver.settings.schema import Settings
from imgserver.web.access import AccessPolicy
from imgserver.web.bootstrap.observability import Observability
from imgserver.web.middleware import Boundary
from imgserver.web.reload import Reloader
from imgserver.web.reload_policy import PolicyReload
from imgserver.web.reload_settings import SettingsReload
from imgserver.web.weak_settings import WeakSettingsAudit


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


def make_reloader(
    settings_reload: SettingsReload,
    boundary: Boundary,
    service: ImageService,
    uploads: UploadAdmission,
    observability: Observability,
) -> Reloader:
    """Puts the security policy into force and audits weak settings, now and after each reload. Raises BadPolicy."""
    settings = settings_reload.current
    policy_reload = PolicyReload(
        settings.security.policy,
        install=_policy_installer(boundary, service, uploads),
        metrics=observability.metrics,
        audit=observability.audit,
    )
    weak_settings = WeakSettingsAudit(observability.audit, lambda: policy_reload.current)
    weak_settings.report(settings)
    settings_reload.follow(weak_settings.report)
    reloader = Reloader(observability.logger)
    reloader.add("settings", settings_reload.reload)
    reloader.add("policy", policy_reload.reload)
    return reloader


def _policy_installer(boundary: Boundary, service: ImageService, uploads: UploadAdmission) -> Callable[[Policy], None]:
    """The counts of the rate limits outlive a policy."""
    redis = service.cache.redis_client
    buckets = ClientRateLimiter(SharedTokenBuckets(redis) if redis is not None else None)

    def install(policy: Policy) -> None:
        boundary.install(AccessPolicy(policy, buckets))
        service.renderer.format_policy.pixels, service.renderer.format_policy.formats = policy.pixels, policy.formats
        service.negative_cache.clear()
        uploads.apply(policy.uploads)

    return install
