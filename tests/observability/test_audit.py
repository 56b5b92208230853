"""The audit log counts every event, limits the lines, and never reveals secrets."""

import ast
import asyncio
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from imgserver import errors
from imgserver.errors import ImgserverError
from imgserver.observability import audit
from imgserver.observability.audit import LINES_PER_SECOND, OTHER, REASONS, AuditLog
from imgserver.observability.logs import LogSettings, make_logger

PACKAGE = Path(audit.__file__).parents[1]


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class Listener:
    """An audit log, with what it has counted and written."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.clock = Clock()
        self._stream = io.BytesIO()
        logger, self._writer = make_logger(LogSettings(format="json"), self._stream)
        self.trail = AuditLog(logger, self._count, self.clock)

    def lines(self) -> list[dict]:
        self._writer.close()
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def _count(self, event: str, reason: str) -> None:
        self.counts[event, reason] += 1


@pytest.fixture
def listener() -> Listener:
    return Listener()


def test_an_event_is_counted_and_logged(listener) -> None:
    listener.trail("auth_failed", reason="no_key", remote="192.0.2.77", request_id="r-1")

    (line,) = listener.lines()
    assert listener.counts == {("auth_failed", "no_key"): 1}
    assert {name: line[name] for name in ("event", "level", "reason", "remote", "request_id")} == {
        "event": "security.auth_failed",
        "level": "warning",
        "reason": "no_key",
        "remote": "192.0.2.0/24",
        "request_id": "r-1",
    }


def test_an_undeclared_reason_is_counted_as_other(listener) -> None:
    listener.trail("auth_failed", reason="surprise")

    assert listener.counts == {("auth_failed", OTHER): 1}
    assert listener.lines()[0]["reason"] == "surprise"


def test_a_flood_is_summed_up_in_one_line_after_a_second(listener) -> None:
    for _ in range(1000):
        listener.trail("address_denied", reason="deny", remote="192.0.2.1")
    listener.trail("address_denied", reason="allow")
    listener.clock.now += 1
    listener.trail("address_denied", reason="deny", remote="192.0.2.1")

    lines = listener.lines()
    assert listener.counts == {("address_denied", "deny"): 1001, ("address_denied", "allow"): 1}
    assert len(lines) == LINES_PER_SECOND + 3
    assert [line["summed"] for line in lines if "summed" in line] == [1000 - LINES_PER_SECOND]


async def test_the_end_of_a_flood_is_summed_up_without_another_event(listener, monkeypatch) -> None:
    monkeypatch.setattr(audit, "PERIOD_SECONDS", 0.01)
    for _ in range(LINES_PER_SECOND + 5):
        listener.trail("quota_exceeded", reason="pictures")
    await asyncio.sleep(0.05)

    assert [line["summed"] for line in listener.lines() if "summed" in line] == [5]


def test_close_writes_pending_sums(listener) -> None:
    for _ in range(LINES_PER_SECOND + 5):
        listener.trail("quota_exceeded", reason="pictures")
    listener.trail.close()

    assert listener.lines()[-1]["summed"] == 5


def test_infrequent_events_have_a_line_each(listener) -> None:
    for _ in range(3 * LINES_PER_SECOND):
        listener.trail("quota_exceeded", reason="pictures")
        listener.clock.now += 0.2

    assert len(listener.lines()) == 3 * LINES_PER_SECOND


def test_long_texts_with_control_characters_stay_one_short_line(listener) -> None:
    listener.trail("path_rejected", reason="malformed", detail="\n\x1b[31m" + "x" * 1000)

    (line,) = listener.lines()
    assert len(line["detail"]) == 201


def test_every_event_in_the_package_is_declared() -> None:
    told = {pair for path in PACKAGE.rglob("*.py") for pair in _told(ast.parse(path.read_text("utf-8")))}
    unknown = {(event, reason) for event, reason in told if reason not in REASONS.get(event, ())}

    assert told >= {("admin_action", "purge"), ("config_weak", "uploads_open")}
    assert unknown == set(), "declare them in audit.REASONS"


def test_every_refusal_of_an_upload_is_declared() -> None:
    """Except the errors of authentication, those with an event of their own, and those of requests by URL."""
    elsewhere = {401, 403, 404, 410, 412, 414, 429, 431}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ImgserverError)]
    codes = {kind.code for kind in kinds if kind.status < 500 and kind.status not in elsewhere}

    assert codes - {"unprocessable"} <= set(REASONS["upload_rejected"])


def test_every_event_is_documented() -> None:
    page = (PACKAGE.parent / "docs" / "policy.md").read_text("utf-8")

    assert [event for event in REASONS if f"`{event}`" not in page] == []


def _told(tree: ast.AST):
    """Calls such as `self._audit("auth_failed", reason="no_key")` with literal arguments."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
        name = ast.unparse(call.func).lower()
        reason = next((word.value for word in call.keywords if word.arg == "reason"), None)
        event = call.args[0]
        if "audit" in name and isinstance(event, ast.Constant) and isinstance(reason, ast.Constant):
            yield event.value, reason.value
