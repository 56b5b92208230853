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
from imgserver.errors import ImgserverError
from imgserver.observability.audit import unheard
from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import Fit, Output, Plan, Px
from imgserver.runtime import resources
from imgserver.settings.describe import format_size
from imgserver.settings.schema import Settings

# One finding of `imgserver doctor`.


@dataclass(frozen=True, slots=True)
class Check:
    """`needed`: without it the server does not do its work. `fix` is empty when all is well."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed: bool = True


def check_sources(settings: Settings) -> Iterator[Check]:
    """Each source, by the port's `check`: a folder can be read, a remote source answers."""
    from imgserver.web.bootstrap.sources import source_configs

    for name, config in source_configs(settings).items():
        section, title = ("source", "source") if config is settings.source else (f"sources.{name}", f"source {name}")
        problem = asyncio.run(_source_problem(name, settings))
        if config.folder is not None:
            fix = f"set {section}.root to a folder this user may read"
            yield Check(f"{title} folder", not problem, str(config.folder), fix if problem else "")
        else:
            fix = f"check {section}.url, its credentials and the server there; missing originals are answered with 502"
            yield Check(title, not problem, f"{config.url}: {problem or 'answers'}", fix if problem else "")


async def _source_problem(name: str, settings: Settings) -> str:
    """Why a source cannot serve originals; empty if it can."""
    from imgserver.web.bootstrap.sources import make_source

    single_attempt = replace(settings, fetch=replace(settings.fetch, max_attempts=1))
    try:
        source = make_source(name, single_attempt, unheard)
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
    far = sum(config.folder is None for config in (settings.source, *settings.sources.values()))
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
    """Writes a small image, and reads it again if the format can be read."""
    row = FORMATS[name]
    written = picture.with_suffix(row.suffix + ".try")
    title = f"codec {name}"
    steps = (Fit(width=Px(8)),)
    try:
        written.write_bytes(render(Job(str(picture), Plan(steps, Output(format=name, quality="good")))))
        if row.readable:
            render(Job(str(written), Plan(steps, Output(format="png"))))
    except ImgserverError as error:
        return Check(title, False, error.detail, "pip install --force-reinstall pyvips-binary")
    return Check(title, True, "writes and reads" if row.readable else "writes")


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
