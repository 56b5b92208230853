"""The process: a socket, an application, signals, and an orderly end."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable

import aiohttp.http_parser
import uvloop
from aiohttp import web

from imgserver.errors import ServerFault
from imgserver.observability.logs import route_standard_logging
from imgserver.settings.schema import ServerSettings, Settings
from imgserver.web.app import FAST_PATH, GUARD, HEALTH, LOGGER, MOUNTS, PICTURES, RELOADER, SERVICE, make_app
from imgserver.web.connections import GuardedSite

# New objects between two looks of the garbage collector; a few MB at most wait for it.
GARBAGE_LOOKS = 20_000


def serve(
    settings: Settings, on_ready: Callable[[str], None], *, read_settings: Callable[[], Settings] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. `on_ready` is told the base URL once pictures can be asked for;
    `read_settings` reads the settings again, for SIGHUP.

    Raises ServerFault when the port is taken or the folder is none: before any worker is started.
    """
    require_c_parser()
    with contextlib.closing(_listen(settings.server)) as listener:
        uvloop.run(_serve(settings, listener, on_ready, read_settings))


def require_c_parser() -> None:
    """The pure-Python HTTP parser let smuggled requests through until aiohttp 3.14.4, and still lets odd bytes in."""
    if not hasattr(aiohttp.http_parser, "HttpRequestParserC"):
        raise ServerFault(
            "aiohttp runs without its C parser; install a wheel with it: pip install --force-reinstall aiohttp"
        )


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=settings.backlog)
    except OSError as error:
        raise ServerFault(f"cannot listen on {settings.host} port {settings.port}: {_why(error)}") from error


def _why(error: OSError) -> str:
    """In the system's words, without those that `create_server` adds. A name that is not found has a negative number
    (getaddrinfo's), which `os.strerror` does not know."""
    if error.errno is None or error.errno < 0:
        return str(error.strerror or error)
    return os.strerror(error.errno)


async def _serve(
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[str], None],
    read_settings: Callable[[], Settings] | None,
) -> None:
    app = make_app(settings, read_settings=read_settings)
    route_standard_logging(app[LOGGER], settings.log)
    stop = _stop_signal()
    _reload_on_hangup(app[RELOADER].request, stop)
    runner = web.AppRunner(
        app, handle_signals=False, handler_cancellation=True, shutdown_timeout=settings.server.drain_seconds
    )
    try:
        await runner.setup()
        site = GuardedSite(
            runner, listener, app[GUARD], mounts=app[MOUNTS], pictures=app[PICTURES], at_once=app[FAST_PATH]
        )
        await site.start()
        _settle_memory()
        app[LOGGER].info("server.ready", url=site.name, workers=app[SERVICE].renderer.workers.count)
        on_ready(site.name)
        await stop.wait()
        app[LOGGER].info("server.draining", seconds=settings.server.drain_seconds)
        _drain(app)
    finally:
        await runner.cleanup()


def _settle_memory() -> None:
    """What start-up has made stays: the collector need not walk it again, which takes 5 % off a hit. Nor need it look
    after every 700 new objects, as it does by itself: a flood of new URLs makes that many in a few answers."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_LOOKS, *gc.get_threshold()[1:])


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return stop


def _reload_on_hangup(reload: Callable[[], None], stop: asyncio.Event) -> None:
    """SIGHUP reads rules and keys again. It also comes when the terminal goes that the server was started in; then
    nobody is left who could stop it."""
    had_terminal = os.isatty(0)

    def hung_up() -> None:
        if had_terminal and not os.isatty(0):
            stop.set()
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)


def _drain(app: web.Application) -> None:
    """Not ready any more, and no new render; what was accepted is finished by the runner's clean-up."""
    app[HEALTH].draining = True
    app[SERVICE].renderer.admission.drain()
