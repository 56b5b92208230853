"""Checks of what the settings name: the sources of originals, and Redis."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace

from imgserver.cache.redis.client import RedisClient, RedisClientStatistics, RedisSettings
from imgserver.cli.checks.check import Check, attempt
from imgserver.errors import ImgserverError
from imgserver.observability.audit import discard_event
from imgserver.settings.schema import Settings


def run(settings: Settings) -> Iterator[Check]:
    """Redis, if it is configured, and each source by its own `check`: a folder can be read, a remote source answers."""
    from imgserver.web.bootstrap.sources import source_configs

    if settings.redis.url:
        yield attempt(_redis, settings)
    for name, config in source_configs(settings).items():
        section, title = ("source", "source") if config is settings.source else (f"sources.{name}", f"source {name}")
        problem = asyncio.run(_source_problem(name, settings))
        if config.folder is not None:
            fix = f"set {section}.root to a folder that this user may read"
            yield Check(f"{title} folder", not problem, str(config.folder), fix if problem else "")
        else:
            fix = f"check {section}.url, its credentials and the server there; missing originals are answered with 502"
            yield Check(title, not problem, f"{config.url}: {problem or 'answers'}", fix if problem else "")


async def _source_problem(name: str, settings: Settings) -> str:
    """Why a source cannot serve originals; empty if it can."""
    from imgserver.web.bootstrap.sources import make_source

    single_attempt = replace(settings, fetch=replace(settings.fetch, max_attempts=1))
    try:
        source = make_source(name, single_attempt, discard_event)
    except ImgserverError as error:
        return error.detail
    try:
        async with asyncio.timeout(settings.fetch.total_timeout_seconds):
            await source.check()
    except ImgserverError as error:
        return " ".join(filter(None, (error.detail, str(error.facts.get("error", "")))))
    except TimeoutError:
        return "it does not answer in time"
    finally:
        await source.close()
    return ""


def _redis(settings: Settings) -> Check:
    """Connects as the server does. An unavailable Redis is not needed: requests are answered without it."""
    try:
        statistics = asyncio.run(_connect(settings.redis))
    except ValueError as error:
        return Check("Redis", False, str(error), "correct redis.url, redis.ca_file or redis.namespace")
    if statistics.connected:
        return Check("Redis", True, "reads and writes" if statistics.write_breaker == "closed" else "reads only")
    found = f"no answer ({', '.join(statistics.faults) or 'in time'})"
    return Check("Redis", False, found, "start it, or correct redis.url", needed=False)


async def _connect(settings: RedisSettings) -> RedisClientStatistics:
    # The check reports what the client would log.
    logging.getLogger("imgserver").addHandler(logging.NullHandler())
    client = RedisClient(settings)
    await client.start()
    statistics = client.statistics()
    await client.close()
    return statistics
