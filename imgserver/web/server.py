"""The server process: its listening socket, application, signals and graceful shutdown."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Sequence

import aiohttp.http_parser
import uvloop
from aiohttp import web

from imgserver.errors import ServerFault
from imgserver.observability.logs import route_standard_logging
from imgserver.runtime import resources
from imgserver.settings.schema import ServerSettings, Settings
from imgserver.web.app import (
    BOUNDARY,
    CONNECTIONS,
    FAST_PATH,
    HEALTH,
    IMAGES,
    LOGGER,
    MOUNTS,
    RELOADER,
    SERVICE,
    make_app,
)
from imgserver.web.fast_path import connection_factory
from imgserver.web.site import Site

# New objects between two runs of the garbage collector; at most a few MB of garbage wait for a run.
GC_THRESHOLD = 20_000
# How long the runner waits for a request that exceeds the drain time: before it cancels the request, and after that.
CANCEL_SECONDS = 0.2


def serve(
    settings: Settings,
    on_ready: Callable[[str], None],
    *,
    read_settings: Callable[[], Settings] | None = None,
    ignored_variables: Sequence[str] = (),
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. Calls `on_ready` with the base URL when the server accepts requests;
    `read_settings` reads the settings again, for SIGHUP. `ignored_variables` are named in the log.

    Raises ServerFault, before any worker starts, if the port is in use or the source folder does not exist.
    """
    require_c_parser()
    resources.raise_descriptor_limit()
    with contextlib.closing(_listen(settings.server)) as listener:
        uvloop.run(_serve(settings, listener, on_ready, read_settings, ignored_variables))


def require_c_parser() -> None:
    """Raises ServerFault without aiohttp's C parser: its pure-Python parser let smuggled requests through until 3.14.4,
    and still accepts bytes that no request may contain."""
    if not hasattr(aiohttp.http_parser, "HttpRequestParserC"):
        raise ServerFault(
            "aiohttp runs without its C parser; install a wheel with it: pip install --force-reinstall aiohttp"
        )


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=settings.backlog)
    except OSError as error:
        raise ServerFault(f"cannot listen on {settings.host} port {settings.port}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    """The system's message, without the text that `create_server` adds. An unknown host name has a negative number, of
    getaddrinfo, which `os.strerror` does not know."""
    if error.errno is None or error.errno < 0:
        return str(error.strerror or error)
    return os.strerror(error.errno)


async def _serve(
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[str], None],
    read_settings: Callable[[], Settings] | None,
    ignored_variables: Sequence[str],
) -> None:
    app = make_app(settings, read_settings=read_settings)
    route_standard_logging(app[LOGGER], settings.log)
    if ignored_variables:
        app[LOGGER].info("settings.variables_ignored", reason="kubernetes_service", names=list(ignored_variables))
    stop = _stop_signal()
    _reload_on_hangup(app[RELOADER].request, stop)
    runner = web.AppRunner(app, handle_signals=False, handler_cancellation=True, shutdown_timeout=CANCEL_SECONDS)
    try:
        if not await _set_up(runner, stop):
            return
        _limit_connections(app)
        site = make_site(runner, listener)
        await site.start()
        _freeze_garbage_collector()
        app[LOGGER].info("server.ready", url=site.url, workers=app[SERVICE].renderer.workers.count)
        on_ready(site.url)
        await stop.wait()
        site.stop()
        await _drain(app, settings.server.drain_seconds)
    finally:
        await runner.cleanup()


async def _set_up(runner: web.AppRunner, stop: asyncio.Event) -> bool:
    """Starts what the application needs, above all its workers. Returns whether it is ready; False as soon as the
    server is to stop."""
    setup, stopped = asyncio.ensure_future(runner.setup()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((setup, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        setup.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await setup
    return not stop.is_set()


def _limit_connections(app: web.Application) -> None:
    connections = app[CONNECTIONS]
    connections.limit_to_descriptors(resources.free_descriptors())
    if connections.limit < (configured := connections.settings.max_connections):
        app[LOGGER].warning("connections.limited_by_descriptors", limit=connections.limit, configured=configured)


def make_site(runner: web.AppRunner, listener: socket.socket) -> Site:
    """Connects the socket with the application of `runner`, whose setup is done."""
    app, server = runner.app, runner.server
    assert server is not None, "the runner is set up"
    connect = connection_factory(app[FAST_PATH].answer, app[LOGGER])
    return Site(
        server,
        listener,
        app[CONNECTIONS],
        mounts=app[MOUNTS],
        images=app[IMAGES],
        boundary=app[BOUNDARY],
        connect=connect,
    )


def _freeze_garbage_collector() -> None:
    """Excludes the objects of the start from garbage collection, which makes a hit 5 % cheaper, and runs the collector
    more rarely than after 700 new objects, its default: a flood of new URLs creates that many in a few responses."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return stop


def _reload_on_hangup(reload: Callable[[], None], stop: asyncio.Event) -> None:
    """SIGHUP reloads policy and settings. The signal also arrives when the terminal of the server closes; then it stops
    the server, because nobody could stop it by Ctrl-C any more."""
    had_terminal = os.isatty(0)

    def on_hangup() -> None:
        if had_terminal and not os.isatty(0):
            stop.set()
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)


async def _drain(app: web.Application, seconds: float) -> None:
    """Reports not ready, and finishes the requests that were accepted: those that wait for an original or for a worker,
    uploads that are being received, and responses that are being written. New requests are refused."""
    app[HEALTH].draining = app[BOUNDARY].is_draining = True
    app[LOGGER].info("server.draining", seconds=seconds, requests=app[BOUNDARY].access_log.in_progress)
    unfinished = await app[CONNECTIONS].drain(seconds)
    log = app[LOGGER].warning if unfinished else app[LOGGER].info
    log("server.drained", unfinished=unfinished)
