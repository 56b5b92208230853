"""What `imgserver doctor` looks at. Each check tries the thing itself where it can be tried."""

import asyncio
import logging
import os
import platform
import resource
import socket
import struct
import sys
import tempfile
import zlib
from base64 import b85decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from imgserver.cache.redis.client import RedisClient, RedisClientStatistics, RedisSettings
from imgserver.engine.job import Job, Limits
from imgserver.errors import ImgserverError, NotFound
from imgserver.observability.audit import Event
from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import Fit, Output, Plan, Px
from imgserver.runtime import resources
from imgserver.settings.describe import format_size
from imgserver.settings.schema import Settings
from imgserver.sources.config import SourceConfig

# One finding of `imgserver doctor`.


@dataclass(frozen=True, slots=True)
class Check:
    """`needed`: without it the server does not do its work. `fix` is empty when all is well."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed: bool = True


# Whether each source of a configuration can be had, for `imgserver doctor`: folders by a look, all else by a question
# for a picture that is not there.

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


def _folder(title: str, place: SourceConfig, *, setting: str) -> Check:
    ok = place.root.is_dir() and os.access(place.root, os.R_OK | os.X_OK)
    fix = "" if ok else f"set {setting} to a folder this user may read"
    return Check(f"{title} folder", ok, str(place.root), fix)


def _far(title: str, name: str, place: SourceConfig, settings: Settings) -> Check:
    """One question, within the time that one original may take."""
    found = asyncio.run(_fault(name, place, settings))
    fix = "see what it answers, its url and its keys; the server answers 502 for what is not kept"
    return Check(title, not found, f"{place.url}: {found or 'answers'}", fix if found else "")


class _AnsweredError(Exception):
    """Some servers have a page for everything."""


async def _leave(_: bytes) -> None:
    raise _AnsweredError


async def _fault(name: str, place: SourceConfig, settings: Settings) -> str:
    """Empty: it answers."""
    from imgserver.web.bootstrap.sources import make_origin

    blocked: list[str] = []

    def audit(event: Event, *, reason: str, **_: object) -> None:  # noqa: ARG001
        blocked.append(reason)

    once = replace(settings, fetch=replace(settings.fetch, max_attempts=1))
    try:
        origin = make_origin(name, place, once, audit)
    except ImgserverError as error:
        return error.detail
    try:
        async with asyncio.timeout(settings.fetch.total_timeout_seconds):
            # With its body: a store says there what is wrong with the keys.
            await origin.fetch(NOBODY, _leave)
    except _AnsweredError:
        return ""
    except NotFound as error:
        if blocked:
            kind = blocked[0].replace("_", " ")
            return f"its address is {kind}; if that is intended, name its network in allowed_networks"
        return "there is no such name" if error.__cause__ is not None else ""
    except ImgserverError as error:
        return " ".join(filter(None, (error.detail, str(error.facts.get("said", "")))))
    except TimeoutError:
        return "it does not answer in time"
    finally:
        await origin.close()
    return ""


PYTHON_FLOOR = (3, 11)
# Beside its connections the server holds log, listener, workers' pipes and originals being read.
OTHER_FILES = 256
# What the server and one worker take, at idle and after large photographs.
SERVER_BYTES, WORKER_BYTES = 120 << 20, 200 << 20
# A red square of 16×16 as HEIC: nothing here can write one.
HEIC = (
    "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfiWXDwIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfUyTc1A!V4D`#frrGa@MQBfc#l?lqr"
    "C`&d3G5HEIOLE~#USt*&6#(gznFY!DK)MvD%$boHBs2l6NbUo}pT9qTFfi~lCjfOwI56@s{{IhBzzkBs3_^0dm>d#;lA2D8jA$|o6dGBly;?Wx"
    "*#pG|2O1a{cp5;$ElEJtY%Yukiw|}J?GVW<E=Yy?!U2jkl5-M4t`LAa6iomB|NjDzW`fZm@q)~XOpr!q4h{|=C7xN33ky(S7_l@mu`~mjdbufy"
    "pzu`EU|i24B<%Cx$IC+*_BYLct_tJmSAV-&`?2Tz@{JOcR{mcA0L+70+5"
)


def run(settings: Settings) -> Iterator[Check]:
    """All checks; one that breaks is a finding, too."""
    redis = (_redis,) if settings.redis.url else ()
    for check in (_python, _parser, _uvloop, _temporary, _port, _cpus, _memory, _files, *redis):
        try:
            yield check(settings)
        except Exception as error:  # a doctor that faints helps nobody
            yield Check(check.__name__.strip("_"), False, f"{type(error).__name__}: {error}", "report this as a bug")
    yield from check_sources(settings)
    yield from _images()


def _python(_: Settings) -> Check:
    ok = sys.version_info >= PYTHON_FLOOR
    return Check("python", ok, platform.python_version(), "" if ok else "install Python 3.11 or newer")


def _parser(_: Settings) -> Check:
    import aiohttp
    from aiohttp import http_parser

    ok = hasattr(http_parser, "HttpRequestParserC")
    found = f"aiohttp {aiohttp.__version__}, {'C' if ok else 'pure Python'} parser"
    return Check("http parser", ok, found, "" if ok else "pip install --force-reinstall --only-binary :all: aiohttp")


def _uvloop(_: Settings) -> Check:
    import uvloop

    return Check("event loop", True, f"{uvloop.__name__} {version('uvloop')}")


def _temporary(_: Settings) -> Check:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        return Check("temporary files", False, f"{folder}: {error.strerror}", "set TMPDIR to a folder with free space")
    return Check("temporary files", True, folder)


def _port(settings: Settings) -> Check:
    """Noted only: a running server holds its own port."""
    host, port = settings.server.host, settings.server.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        fix = "stop what listens there, or choose another --port; fine if it is imgserver itself"
        return Check("port", False, f"{host} port {port}: {os.strerror(error.errno or 0)}", fix, needed=False)
    return Check("port", True, f"{host} port {port} is free" if port else "any free port")


def _cpus(settings: Settings) -> Check:
    granted, chosen = resources.cpus(), settings.workers.count or resources.cpus()
    fix = "" if chosen <= granted else f"workers.count above {granted} only makes pictures wait for each other"
    return Check("CPUs", chosen <= granted, f"{granted} granted, {chosen} workers", fix, needed=False)


def _memory(settings: Settings) -> Check:
    granted = resources.memory_bytes()
    wanted = SERVER_BYTES + settings.cache.memory_bytes + WORKER_BYTES * (settings.workers.count or resources.cpus())
    found = f"{_rounded(granted)} granted, about {_rounded(wanted)} wanted"
    fix = "" if granted >= wanted else "grant more, or lower workers.count and cache.memory_bytes"
    return Check("memory", granted >= wanted, found, fix, needed=False)


def _files(settings: Settings) -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A download has a socket and a file.
    far = sum(place.kind != "folder" for place in (settings.source, *settings.sources.values()))
    far += settings.remote.are_served
    wanted = settings.server.max_connections + OTHER_FILES + 2 * settings.origin_cache.max_concurrent * far
    ok = soft == resource.RLIM_INFINITY or soft >= wanted
    fix = "" if ok else f"ulimit -n {wanted}, or lower server.max_connections"
    return Check("open files", ok, f"{soft} allowed, {wanted} wanted", fix, needed=False)


def _redis(settings: Settings) -> Check:
    """Asked as the server asks it. An absent one is noted only: pictures are answered without."""
    try:
        told = asyncio.run(_connected(settings.redis))
    except ValueError as error:
        return Check("Redis", False, str(error), "correct redis.url, redis.ca_file or redis.namespace")
    if told.connected:
        return Check("Redis", True, "reads and writes" if told.write_breaker == "closed" else "reads only")
    found = f"no answer ({', '.join(told.faults) or 'in time'})"
    return Check("Redis", False, found, "start it, or correct redis.url", needed=False)


async def _connected(settings: RedisSettings) -> RedisClientStatistics:
    # Its log events are for servers; the doctor prints a finding instead.
    logging.getLogger("imgserver.cache.redis").addHandler(logging.NullHandler())
    client = RedisClient(settings)
    await client.start()
    statistics = client.statistics()
    await client.close()
    return statistics


def _rounded(count: int) -> str:
    return format_size(count >> 20 << 20)


def _images() -> Iterator[Check]:
    fix = "pip install --force-reinstall pyvips pyvips-binary"
    try:
        from imgserver.engine.render import render
        from imgserver.engine.vips import open_engine

        codecs = open_engine(svg=True)
    except (ImgserverError, ImportError, OSError) as error:
        yield Check("libvips", False, str(error), fix)
        return
    yield Check("libvips", True, codecs.version)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        picture.write_bytes(tiny_png())
        for name in sorted(name for name, row in FORMATS.items() if row.writable):
            yield _codec(name, picture, lambda job: render(job).body)
        yield _heic(Path(folder), lambda job: render(job).body)
        yield _fonts(Path(folder), lambda job: render(job).body)


def _codec(name: str, picture: Path, render: Callable[[Job], bytes]) -> Check:
    """Writes a small picture, and reads what was written."""
    written = picture.with_suffix(FORMATS[name].suffix + ".try")
    title = f"codec {name}"
    steps = (Fit(width=Px(8)),)
    try:
        written.write_bytes(render(Job(str(picture), Plan(steps, Output(format=name, quality="good")))))
        render(Job(str(written), Plan(steps, Output(format="png"))))
    except ImgserverError as error:
        return Check(title, False, error.detail, "pip install --force-reinstall pyvips-binary")
    return Check(title, True, "writes and reads")


def _heic(folder: Path, render: Callable[[Job], bytes]) -> Check:
    """Reads one. Noted only: it is an extra."""
    file = folder / "picture.heic"
    file.write_bytes(zlib.decompress(b85decode(HEIC)))
    try:
        render(Job(str(file), Plan((Fit(width=Px(8)),), Output(format="png"))))
    except ImgserverError as error:
        return Check("codec heic", False, error.detail, "pip install 'imgserver[heic]'", needed=False)
    return Check("codec heic", True, "reads")


def _fonts(folder: Path, render: Callable[[Job], bytes]) -> Check:
    """Text that draws nothing has no font. Noted only: photographs need none."""
    limits = replace(Limits(), svg=True)
    drawn = set()
    for text in ("", "Wg"):
        file = folder / "text.svg"
        body = f'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="32"><text y="24">{text}</text></svg>'
        file.write_text(body)
        try:
            drawn.add(render(Job(str(file), Plan(output=Output(format="png")), limits)))
        except ImgserverError as error:
            return Check("fonts", False, error.detail, "install a libvips with SVG", needed=False)
    ok = len(drawn) == 2
    fix = "" if ok else "install a font, such as the package fonts-dejavu-core; SVG text stays empty without"
    return Check("fonts", ok, "text is drawn" if ok else "no font found", fix, needed=False)


def tiny_png() -> bytes:
    """A 16×16 gradient, made without any codec of ours."""
    rows = b"".join(b"\0" + bytes(16 * value for x in range(16) for value in (x, y, 8)) for y in range(16))
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
