"""Checks of the machine: Python, event loop, folders, port, CPUs, memory and open files."""

import os
import platform
import resource
import socket
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version

from imgserver.cli.checks.check import Check, attempt
from imgserver.runtime import resources
from imgserver.settings.describe import format_size
from imgserver.settings.schema import Settings

MIN_PYTHON = (3, 11)
# Files that the server has open besides its connections: log, listener, pipes of the workers, originals being read.
OTHER_FILES = 256
# Memory of the server when idle, and of one worker after large photographs.
SERVER_BYTES, WORKER_BYTES = 120 << 20, 200 << 20


def run(settings: Settings) -> Iterator[Check]:
    for check in (_python, _parser, _uvloop, _temporary_files, _port, _cpus, _memory, _open_files):
        yield attempt(check, settings)


def _python(_: Settings) -> Check:
    ok = sys.version_info >= MIN_PYTHON
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


def _temporary_files(_: Settings) -> Check:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        return Check("temporary files", False, f"{folder}: {error.strerror}", "set TMPDIR to a folder with free space")
    return Check("temporary files", True, folder)


def _port(settings: Settings) -> Check:
    """Not needed: a server that runs already has its port."""
    host, port = settings.server.host, settings.server.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        fix = "stop the process that listens there, or choose another --port; fine if it is imgserver"
        return Check("port", False, f"{host} port {port}: {os.strerror(error.errno or 0)}", fix, needed=False)
    return Check("port", True, f"{host} port {port} is free" if port else "any free port")


def _cpus(settings: Settings) -> Check:
    granted, chosen = resources.cpus(), settings.workers.count or resources.cpus()
    fix = "" if chosen <= granted else f"set workers.count to {granted} or less; more workers only compete for the CPUs"
    return Check("CPUs", chosen <= granted, f"{granted} granted, {chosen} workers", fix, needed=False)


def _memory(settings: Settings) -> Check:
    granted = resources.memory_bytes()
    workers = settings.workers.count or resources.cpus()
    wanted = SERVER_BYTES + settings.cache.memory_bytes + WORKER_BYTES * workers
    found = f"{_mebibytes(granted)} granted, about {_mebibytes(wanted)} needed"
    fix = "" if granted >= wanted else "grant more memory, or lower workers.count and cache.memory_bytes"
    return Check("memory", granted >= wanted, found, fix, needed=False)


def _open_files(settings: Settings) -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    remote = sum(source.folder is None for source in (settings.source, *settings.sources.values()))
    remote += settings.remote.are_served
    # A download has a socket and a file.
    wanted = settings.server.max_connections + OTHER_FILES + 2 * settings.origin_cache.max_concurrent * remote
    ok = soft == resource.RLIM_INFINITY or soft >= wanted
    fix = "" if ok else f"ulimit -n {wanted}, or lower server.max_connections"
    return Check("open files", ok, f"{soft} allowed, {wanted} needed", fix, needed=False)


def _mebibytes(count: int) -> str:
    return format_size(count >> 20 << 20)
