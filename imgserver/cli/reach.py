"""Whether each source of a configuration can be had, for `imgserver doctor`: folders by a look, all else by a question
for a picture that is not there."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace

from imgserver.cli.check import Check
from imgserver.errors import ImgserverError, NotFound
from imgserver.observability.audit import Event
from imgserver.settings.schema import Settings
from imgserver.sources.config import Place

# Whoever answers that there is no such picture has been reached.
NOBODY = "imgserver-doctor-asks-whether-anybody-answers"


def check_sources(settings: Settings) -> Iterator[Check]:
    for name, place in {settings.source.name: settings.source, **settings.sources}.items():
        own = place is settings.source
        title = "source" if own else f"source {name}"
        if place.kind == "folder":
            yield _folder(title, place, setting="source.root" if own else f"sources.{name}.root")
        else:
            yield _far(title, name, place, settings)


def _folder(title: str, place: Place, *, setting: str) -> Check:
    ok = place.root.is_dir() and os.access(place.root, os.R_OK | os.X_OK)
    fix = "" if ok else f"set {setting} to a folder this user may read"
    return Check(f"{title} folder", ok, str(place.root), fix)


def _far(title: str, name: str, place: Place, settings: Settings) -> Check:
    """One question, within the time that one original may take."""
    found = asyncio.run(_fault(name, place, settings))
    fix = "see what it answers, its url and its keys; the server answers 502 for what is not kept"
    return Check(title, not found, f"{place.url}: {found or 'answers'}", fix if found else "")


class _AnsweredError(Exception):
    """Some servers have a page for everything."""


async def _leave(_: bytes) -> None:
    raise _AnsweredError


async def _fault(name: str, place: Place, settings: Settings) -> str:
    """Empty: it answers."""
    from imgserver.web.bootstrap.sources import make_origin

    blocked: list[str] = []

    def audit(event: Event, *, reason: str, **_: object) -> None:  # noqa: ARG001
        blocked.append(reason)

    once = replace(settings, fetch=replace(settings.fetch, attempts=1))
    try:
        origin = make_origin(name, place, once, audit)
    except ImgserverError as error:
        return error.detail
    try:
        async with asyncio.timeout(settings.fetch.total_seconds):
            # With its body: a store says there what is wrong with the keys.
            await origin.fetch(NOBODY, _leave)
    except _AnsweredError:
        return ""
    except NotFound as error:
        if blocked:
            return f"its address is {blocked[0].replace('_', ' ')}; name the network in networks, if that is meant"
        return "there is no such name" if error.__cause__ is not None else ""
    except ImgserverError as error:
        return " ".join(filter(None, (error.detail, str(error.facts.get("said", "")))))
    except TimeoutError:
        return "it does not answer in time"
    finally:
        await origin.close()
    return ""
