"""Redis is checked by connecting to it."""

from pathlib import Path

from imgserver.cli.checks import Check, services
from imgserver.settings.loader import load
from imgserver.settings.schema import Settings
from tests.redis_server import running


def redis_check(settings: Settings) -> Check:
    return next(check for check in services.run(settings) if check.name == "Redis")


def test_redis_is_checked_only_if_it_is_configured(tmp_path: Path) -> None:
    assert "Redis" not in {check.name for check in services.run(Settings())}
    with running(tmp_path) as redis:
        settings = load(None, {"REDIS_URL": redis.url}, {}).settings
        available = redis_check(settings)
    unavailable = redis_check(settings)
    unusable = redis_check(load(None, {"REDIS_URL": "redis+sentinel://h"}, {}).settings)

    assert (available.ok, available.found) == (True, "reads and writes")
    assert (unavailable.ok, unavailable.needed, unavailable.found) == (False, False, "no answer (connection)")
    assert (unusable.ok, unusable.needed) == (False, True)
