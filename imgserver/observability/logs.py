"""JSON logs: one event per request with all its fields, written by a thread, so that a slow reader never blocks the
event loop."""

import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, BinaryIO, Literal

import orjson
import structlog
from annotated_types import doc
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from imgserver.security.redaction import redact_all

# When this many lines wait, because their reader has stopped, further lines are dropped and counted. A line has less
# than 2 kB.
BACKLOG_LINES = 8192
FLUSH_SECONDS = 0.1
TEXT_LIMIT = 200


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, and in which format."""

    level: Annotated[Literal["debug", "info", "warning", "error"], doc("least severe level that is written")] = "info"
    format: Annotated[
        Literal["auto", "json", "console"],
        doc("json for machines, console for people; auto: console on a terminal, else json"),
    ] = "auto"


class LogWriter:
    """Accepts lines without blocking and writes them from its own thread. `close` writes the remaining lines."""

    def __init__(self, stream: BinaryIO) -> None:
        self.dropped_lines = 0
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="logs", daemon=True)
        self._thread.start()

    def msg(self, line: bytes) -> None:
        if len(self._lines) >= BACKLOG_LINES:
            self.dropped_lines += 1
            return
        self._lines.append(line)

    # structlog calls the method named after the level.
    debug = info = warning = warn = error = critical = exception = fatal = log = msg

    def close(self) -> None:
        """Waits at most 2 s for the last lines: a stopped reader must not keep the process alive."""
        self._closing.set()
        self._thread.join(timeout=2)

    def _write_forever(self) -> None:
        # At intervals, not for each line: every wake-up would take the interpreter lock from the event loop.
        while not self._closing.wait(FLUSH_SECONDS):
            self._write_lines()
        self._write_lines()

    def _write_lines(self) -> None:
        batch = [self._lines.popleft() for _ in range(len(self._lines))]
        if not batch:
            return
        text = b"\n".join([*batch, b""])
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped_lines += len(batch)


# Takes the fields of one `request` event.
RequestLog = Callable[[dict[str, Any]], None]


def make_request_log(settings: LogSettings, logger: FilteringBoundLogger, writer: LogWriter) -> RequestLog:
    """A function that writes the event `request` at level info. JSON lines go straight to the writer: the processors
    of the logger cost 3 µs per line, a twentieth of a cache hit."""
    if settings.level not in ("debug", "info"):
        return lambda _: None
    if not _is_json(settings):
        return lambda fields: logger.info("request", **fields)

    def write(fields: dict[str, Any]) -> None:
        fields["event"], fields["level"], fields["timestamp"] = "request", "info", _now()
        writer.msg(orjson.dumps(fields))

    return write


def make_logger(settings: LogSettings, stream: BinaryIO | None = None) -> tuple[FilteringBoundLogger, LogWriter]:
    """A new logger, not the global one, and its writer, which the caller closes. `stream` is standard error by
    default."""
    writer = LogWriter(stream if stream is not None else sys.stderr.buffer)
    logger: FilteringBoundLogger = structlog.wrap_logger(
        writer,
        processors=_processors(settings),
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
    ).bind()  # the lazy proxy would bind again for each line
    return logger, writer


def route_standard_logging(logger: FilteringBoundLogger, settings: LogSettings) -> None:
    """Sends records of the standard logging module to the same stream."""
    root = logging.getLogger()
    root.handlers = [_StandardHandler(logger)]
    root.setLevel(settings.level.upper())


class _StandardHandler(logging.Handler):
    """Passes records of the standard logging module to structlog. `extra={...}` of a call becomes fields of the event,
    so that `log.warning("redis.write_failed", extra={"error": "OOM"})` has a name and fields like our own events. The
    sentence of another library becomes the field `message` of the event `library.message`."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        fields = {name: value for name, value in vars(record).items() if name not in _RECORD_ATTRIBUTES}
        fields |= {"logger": record.name, "exc_info": record.exc_info or None}
        event, text = record.getMessage(), {}
        if not _EVENT_NAME.fullmatch(event):
            event, text = "library.message", {"message": event}
        self._logger.log(record.levelno, event, **text, **fields)


_EVENT_NAME = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")
# Attributes of every record, two that formatters set, and the three names that an event has already: the other
# attributes came by `extra`.
_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event", "level", "timestamp"}


def _processors(settings: LogSettings) -> list[Processor]:
    stages: list[Processor] = [
        structlog.processors.add_log_level,
        _stamp,
        structlog.processors.format_exc_info,
        _redact,
    ]
    if _is_json(settings):
        return [*stages, _to_json]
    return [*stages, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()), _to_bytes]


@lru_cache(maxsize=2)
def _second(epoch_seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_seconds))


def _stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["timestamp"] = _now()
    return event


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The texts of an event may contain URLs: addresses of services, and messages of exceptions."""
    return {name: redact_all(value) for name, value in event.items()}


def _now() -> str:
    """ISO 8601 in UTC with milliseconds. The seconds are formatted once per second, not per line."""
    now = time.time()
    return f"{_second(int(now))}.{int(now * 1000) % 1000:03d}Z"


def _is_json(settings: LogSettings) -> bool:
    return settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=str)


def _to_bytes(_: WrappedLogger, __: str, line: Any) -> bytes:
    return str(line).encode(errors="backslashreplace")


def cut(text: str) -> str:
    """A client's text, cut to TEXT_LIMIT for the log. JSON escapes its control characters."""
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…"
