"""Log events are names, such as `redis.write_failed`, in the whole package."""

import ast
import re
from pathlib import Path

import imgserver

PACKAGE = Path(imgserver.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
NAME = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")


def events(path: Path) -> list[str]:
    """The first arguments of the calls that write to a log."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    return [
        ast.unparse(call.args[0]).strip("'\"")
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in LEVELS
        and ast.unparse(call.func.value).rpartition(".")[2] in {"log", "_log", "logger", "_logger", "app[LOGGER]"}
        and call.args
    ]


def test_every_log_event_is_a_name():
    # The module that writes what its callers name.
    found = {path: events(path) for path in PACKAGE.rglob("*.py") if path != PACKAGE / "observability/logs.py"}
    sentences = {
        (str(path.relative_to(PACKAGE)), event)
        for path, names in found.items()
        for event in names
        if not NAME.fullmatch(event)
    }

    assert sum(map(len, found.values())) > 20
    assert sentences == set()
