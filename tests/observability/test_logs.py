import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imgserver.observability import logs
from imgserver.observability.logs import LogSettings, make_logger


class Stuck(io.BytesIO):
    """A stream whose reader has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), threading.Event()

    def write(self, data) -> int:
        self.entered.set()
        self.released.wait()
        return super().write(data)


def lines(stream: io.BytesIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@contextmanager
def standard_logging() -> Iterator[io.BytesIO]:
    """Routes the standard module into a stream of JSON lines, which is complete after the context."""
    stream = io.BytesIO()
    settings = LogSettings(format="json")
    logger, writer = make_logger(settings, stream)
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        logs.route_standard_logging(logger, settings)
        yield stream
    finally:
        root.handlers, root.level = before
        writer.close()


def test_an_event_is_one_line_with_level_and_time():
    stream = io.BytesIO()
    logger, writer = make_logger(LogSettings(format="json"), stream)
    logger.info("request", target="/a\nb")
    logger.debug("not of interest")
    writer.close()

    (event,) = lines(stream)
    assert (event["event"], event["level"], event["target"]) == ("request", "info", "/a\nb")
    assert event["timestamp"].endswith("Z")


def test_an_error_keeps_its_traceback_in_its_line():
    stream = io.BytesIO()
    logger, writer = make_logger(LogSettings(format="json"), stream)
    try:
        raise ValueError("broken")
    except ValueError as error:
        logger.error("server.fault", exc_info=error)
    writer.close()

    assert "ValueError: broken" in lines(stream)[0]["exception"]


def test_a_stopped_reader_loses_lines_and_never_blocks(monkeypatch):
    monkeypatch.setattr(logs, "BACKLOG_LINES", 10)
    stream = Stuck()
    logger, writer = make_logger(LogSettings(format="json"), stream)
    logger.info("first")
    assert stream.entered.wait(5)
    for number in range(50):
        logger.info("later", number=number)
    dropped = writer.dropped_lines
    stream.released.set()
    writer.close()

    assert dropped == 40
    assert len(lines(stream)) == 11


def test_libraries_log_into_the_same_stream():
    with standard_logging() as stream:
        logging.getLogger("aiohttp.server").error("hard %s", "luck")

    (event,) = lines(stream)
    assert (event["event"], event["message"]) == ("library.message", "hard luck")
    assert (event["logger"], event["level"]) == ("aiohttp.server", "error")


def test_secrets_of_urls_are_masked_in_every_field_and_in_tracebacks():
    url = "https://user:hunter2@example.com/a?token=hunter2"
    stream = io.BytesIO()
    logger, writer = make_logger(LogSettings(format="json"), stream)
    try:
        raise OSError(f"cannot connect to {url}")
    except OSError as error:
        logger.error("fetch.failed", url=url, details={"redis": ["redis://:hunter2@h"]}, exc_info=error)
    writer.close()
    with standard_logging() as standard:
        logging.getLogger("library").warning("retry %s", url)
        logging.getLogger("imgserver.cache").warning("redis.probe_failed", extra={"error": url})

    assert "hunter2" not in stream.getvalue().decode() + standard.getvalue().decode()
    assert "cannot connect to https://...@example.com/a?token=..." in lines(stream)[0]["exception"]
    assert [event["event"] for event in lines(standard)] == ["library.message", "redis.probe_failed"]


def test_console_lines_are_for_people():
    stream = io.BytesIO()
    logger, writer = make_logger(LogSettings(format="console"), stream)
    logger.info("server.ready", url="here")
    writer.close()

    assert b"server.ready" in stream.getvalue()
    assert not stream.getvalue().startswith(b"{")


def test_long_texts_are_cut():
    assert logs.cut("a" * 300) == "a" * 200 + "…"
    assert logs.cut("short") == "short"


def test_extra_fields_of_the_standard_module_become_fields_of_the_event():
    with standard_logging() as stream:
        logging.getLogger("imgserver.cache").warning("redis.write_failed", extra={"error": "OOM", "seconds": 2})

    (event,) = lines(stream)
    assert (event["event"], event["logger"], event["error"], event["seconds"]) == (
        "redis.write_failed",
        "imgserver.cache",
        "OOM",
        2,
    )
