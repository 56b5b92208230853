"""Every attack gets its response and is exactly one audit event."""

import http.client
import os
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from imgserver.errors import (
    Expired,
    ImgserverError,
    NotFound,
    OriginalBusy,
    QuotaExceeded,
    SignatureRefused,
    SourceDenied,
)
from imgserver.observability.audit import label_sets
from imgserver.rendering.worker_pool import WorkerEvent
from imgserver.web.instrumentation import worker_observer
from imgserver.web.security_events import error_observer
from tests import decompression_bombs
from tests.running_server import SAMPLES, ServerProcess, serving, wait_until

KEY = "planted-key-of-this-suite-0123456"
Counts = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("planted") / "root"
    folder.mkdir()
    write_files(folder)
    with serving(folder, workers_count=1, admin_key=KEY, log_level="debug") as running:
        yield running


@pytest.fixture(scope="module")
def weak() -> Iterator[ServerProcess]:
    """A server with remote sources, SVG and a short deadline."""
    settings = {"remote_allowed_urls": "http://localhost:1/", "limits_svg": "true", "queue_deadline_seconds": 0.5}
    with serving(workers_count=1, log_level="debug", **settings) as running:
        yield running


def write_files(folder: Path) -> None:
    """Writes one valid image, and the files that attackers try to read."""
    for name in ("root/good.png", "secret.png", "root-beside.png"):
        shutil.copy(SAMPLES / "cat.png", folder.parent / name)
    (folder / "out.png").symlink_to(folder.parent / "secret.png")
    (folder / "beside.png").symlink_to(folder.parent / "root-beside.png")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "wide.png").write_bytes(decompression_bombs.wide_interlaced_png())
    (folder / "zeros.png").write_bytes(decompression_bombs.zeros_png())
    (folder / "frames.gif").write_bytes(decompression_bombs.many_frames_gif())
    (folder / "drawing.png").write_bytes(decompression_bombs.SVG_HUGE)
    (folder / "script.png").write_bytes(b"%!PS-Adobe-3.0\n" + bytes(100))


def counts(server: ServerProcess) -> Counts:
    text = server.ask("/metrics").body.decode()
    rows = re.findall(r'^imgserver_security_events_total\{event="(\w+)",reason="([\w-]+)"\} (\S+)$', text, re.MULTILINE)
    return {(event, reason): float(value) for event, reason, value in rows}


def security_events(server: ServerProcess) -> list[dict]:
    return [event for event in server.events() if event["event"].startswith("security.")]


ATTACKS = [
    ("decompression bomb, a row of a million pixels", "GET", "/img/w_9/wide.png", 422, ("limit_exceeded", "side")),
    ("decompression bomb, zeros", "GET", "/img/w_9/zeros.png", 422, ("limit_exceeded", "side")),
    ("frame bomb", "GET", "/img/w_9,f_gif/frames.gif", 422, ("limit_exceeded", "frames")),
    ("an enlargement beyond the limit", "GET", "/img/c_pad,w_8000,h_8000/good.png", 400, ("limit_exceeded", "output")),
    ("an overlong target", "GET", "/img/" + "a/" * 4050 + "b", 414, ("limit_exceeded", "target")),
    ("a rare loader", "GET", "/img/w_9/script.png", 415, ("loader_blocked", "unsupported")),
    ("SVG under another name", "GET", "/img/w_9/drawing.png", 415, ("loader_blocked", "svg")),
    ("traversal", "GET", "/img/../secret.png", 400, ("path_rejected", "malformed")),
    ("traversal, encoded", "GET", "/img/%2e%2e%2fsecret.png", 400, ("path_rejected", "malformed")),
    ("traversal by backslash", "GET", "/img/..%5csecret.png", 400, ("path_rejected", "malformed")),
    ("NUL in the path", "GET", "/img/good.png%00.txt", 400, ("path_rejected", "malformed")),
    ("symlink out of the root", "GET", "/img/out.png", 404, ("path_rejected", "outside")),
    (
        "symlink into a sibling of a similar name",
        "GET",
        "/img/beside.png",
        404,
        ("path_rejected", "outside"),
    ),
    ("a remote URL without remote sources", "GET", "/img/http://127.0.0.1/a.png", 403, ("source_denied", "no_remote")),
    ("admin without a key", "POST", "/api/admin/purge", 401, ("auth_failed", "no_key")),
]


@pytest.mark.parametrize(
    ("method", "target", "status", "event"), [row[1:] for row in ATTACKS], ids=[r[0] for r in ATTACKS]
)
def test_an_attack_is_exactly_one_event(attacked, method, target, status, event):
    before, lines = counts(attacked), len(security_events(attacked))
    answer = attacked.ask(target, method, {"Content-Length": "0"} if method == "POST" else {})
    after = counts(attacked)

    assert answer.status == status
    assert {kind: after[kind] - before[kind] for kind in after if after[kind] != before[kind]} == {event: 1}
    wait_until(lambda: len(security_events(attacked)) > lines, "the event is written")
    assert [(one["event"], one["reason"], one["remote"]) for one in security_events(attacked)[lines:]] == [
        (f"security.{event[0]}", event[1], "127.0.0.0/24")
    ]


def upload_of(
    data: bytes, query: str = "", kind: str = "image/png", key: str = KEY
) -> tuple[str, dict[str, str], bytes]:
    fields = {"Content-Type": kind, "Content-Length": str(len(data)), "Authorization": f"Bearer {key}"}
    return f"/api/image/optimize?{query}", fields, data


UPLOADS = (
    ("not an image", upload_of(b"%!PS-Adobe-3.0\n" + bytes(100)), 415, ("upload_rejected", "unsupported-image")),
    ("SVG", upload_of(decompression_bombs.SVG_HUGE), 415, ("upload_rejected", "unsupported-image")),
    ("a bomb", upload_of(decompression_bombs.wide_interlaced_png()), 422, ("upload_rejected", "image-over-limit")),
    ("the media type of text", upload_of(b"x", kind="text/plain"), 415, ("upload_rejected", "unsupported-image")),
    ("a huge result", upload_of(b"x", query="w=999999"), 400, ("upload_rejected", "bad-option")),
    ("a wrong key", upload_of(b"x", key="nobody.knows"), 401, ("auth_failed", "unknown_key")),
)


@pytest.mark.parametrize(("upload", "status", "event"), [row[1:] for row in UPLOADS], ids=[row[0] for row in UPLOADS])
def test_an_attack_by_upload_is_exactly_one_event_with_the_id_of_the_request(attacked, upload, status, event):
    target, fields, data = upload
    before, lines = counts(attacked), len(security_events(attacked))
    answer = attacked.ask(target, "POST", fields, data)
    after = counts(attacked)

    assert answer.status == status
    assert {kind: after[kind] - before[kind] for kind in after if after[kind] != before[kind]} == {event: 1}
    wait_until(lambda: len(security_events(attacked)) > lines, "the event is written")
    assert [
        (one["event"], one["reason"], one["request_id"], one["remote"]) for one in security_events(attacked)[lines:]
    ] == [(f"security.{event[0]}", event[1], answer.headers["X-Request-Id"], "127.0.0.0/24")]


@pytest.mark.parametrize("target", ["/img/good.png", "/img/none.png", "/img/folder", "/img/w_x/good.png", "/nothing"])
def test_an_ordinary_refusal_is_not_an_event(attacked, target):
    before = counts(attacked)
    attacked.ask(target)

    assert counts(attacked) == before


REMOTE_REFUSALS = [
    ("/img/https://unlisted.example/a.png", 403, "source_denied", "not_listed"),
    ("/img/http://localhost:1/a.png", 404, "address_blocked", "loopback"),
]


def test_a_refused_remote_url_is_an_event_with_the_id_of_its_request(weak):
    before = len(security_events(weak))
    answers = [weak.ask(target) for target, *_ in REMOTE_REFUSALS]
    wait_until(lambda: len(security_events(weak)) == before + len(REMOTE_REFUSALS), "the events are written")
    events = security_events(weak)[before:]

    assert [answer.status for answer in answers] == [status for _, status, *_ in REMOTE_REFUSALS]
    assert [(one["event"], one["reason"], one["request_id"], one["remote"]) for one in events] == [
        (f"security.{event}", reason, answer.headers["X-Request-Id"], "127.0.0.0/24")
        for (_, _, event, reason), answer in zip(REMOTE_REFUSALS, answers, strict=True)
    ]


def test_every_audit_series_exists_from_the_start(server):
    assert set(label_sets()) == set(counts(server))


def test_a_render_killed_at_its_deadline_is_an_event(weak):
    for worker in weak.workers():
        worker.suspend()
    status = weak.ask("/img/w_77/cat.png").status
    for worker in weak.workers():
        worker.resume()
    found = counts(weak)["render_killed", "timeout"]

    assert (status, found) == (504, 1)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (WorkerEvent("lost", reason="crash"), [("render_killed", "crash")]),
        (WorkerEvent("lost", reason="timeout"), [("render_killed", "timeout")]),
        (WorkerEvent("quarantined", reason="crash", detail="photos/cat.png"), [("key_quarantined", "crash")]),
        (WorkerEvent("lost", reason="recycle"), []),
        (WorkerEvent("lost", reason="abandoned"), []),
    ],
)
def test_a_killed_worker_is_an_event_and_a_recycled_one_is_not(event, expected):
    audited = []
    observe = worker_observer(Mock(), Mock(), lambda name, *, reason, **facts: audited.append((name, reason)))
    observe(event)

    assert audited == expected


HIDDEN = ("/img/none.png", "/img/out.png", "/img/folder", "/img/pipe.png", "/img/folder/none.png")


def test_missing_and_hidden_files_get_the_same_response(attacked):
    answers = [attacked.ask(target) for target in HIDDEN]
    bodies = [{name: value for name, value in answer.json().items() if name != "request_id"} for answer in answers]
    fields = [sorted(name for name in answer.headers if name != "X-Request-Id") for answer in answers]

    assert bodies == [bodies[0]] * len(HIDDEN)
    assert fields == [fields[0]] * len(HIDDEN)
    assert len({answer.headers["Cache-Control"] for answer in answers}) == 1


def test_missing_files_and_files_outside_the_root_take_the_same_time(attacked):
    """The requests alternate on one connection, so that load on the machine slows both. The best of three rounds
    counts."""
    gaps = []
    while len(gaps) < 3 and min(gaps, default=1) >= 0.002:
        missing, outside = response_seconds(attacked, *HIDDEN[:2])
        gaps.append(abs(statistics.median(missing) - statistics.median(outside)))

    assert min(gaps) < 0.002


def response_seconds(server: ServerProcess, *targets: str) -> tuple[list[float], ...]:
    seconds: tuple[list[float], ...] = tuple([] for _ in targets)
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        for _ in range(200):
            for target, taken in zip(targets, seconds, strict=True):
                begun = time.perf_counter()
                connection.request("GET", target)
                connection.getresponse().read()
                taken.append(time.perf_counter() - begun)
    return seconds


def test_no_error_reveals_the_folder_of_the_originals(attacked):
    planted = re.compile(rb"planted|secret\.png|/proc/|/tmp")
    for _, method, target, _, _ in ATTACKS:
        assert not planted.search(
            attacked.ask(target, method, {"Content-Length": "0"}).body.replace(b"%5csecret.png", b"")
        )


def test_control_characters_in_a_target_add_neither_log_lines_nor_series(attacked):
    attacked.ask("/img/../a")
    attacked.ask("/img/good", headers={"User-Agent": "\x1b[31mevil"})
    before = series(attacked)
    for number in range(30):
        attacked.ask(f"/img/%0aevil{number}%1b%5b31m/../x")
        attacked.ask(f"/%0d%0aevil{number}")
        attacked.ask("/img/good", headers={"X-Forwarded-For": f"evil{number}", "User-Agent": "\x1b[31mevil"})
    after = series(attacked)
    attacked.reload()
    lines = attacked.log.read_bytes().splitlines()

    assert before.keys() == after.keys()
    assert not any(line.startswith(b"evil") or b"\x1b" in line for line in lines)
    assert all(line.startswith(b"{") for line in lines)


def series(server: ServerProcess) -> dict[str, str]:
    server.ask("/nothing")
    server.ask("/img/none")
    server.ask("/metrics")
    lines = server.ask("/metrics").body.decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith("imgserver_"))


def events_of(error: ImgserverError) -> list[dict[str, object]]:
    audited: list[dict[str, object]] = []
    observe = error_observer(lambda event, **facts: audited.append({"event": event, **facts}))
    observe(make_mocked_request("GET", "/img/secret.jpg"), error, "id-1")
    return audited


@pytest.mark.parametrize(
    ("error", "event", "reason", "facts"),
    [
        (SignatureRefused("no", reason="wrong"), "signature_rejected", "wrong", {}),
        (
            SignatureRefused("no", reason="source", key="373a1c1c", source="shop", path="a.jpg"),
            "signature_rejected",
            "source",
            {"key": "373a1c1c", "source": "shop"},
        ),
        (SourceDenied("no", reason="loop"), "source_denied", "loop", {}),
        (Expired("over", reason="expired"), "signature_expired", "expired", {}),
        (OriginalBusy("much", reason="renditions", retry_after=3), "quota_exceeded", "renditions", {}),
    ],
)
def test_a_refusal_is_an_event_with_names_and_ids_only(error, event, reason, facts):
    assert events_of(error) == [{"event": event, "reason": reason, "request_id": "id-1", "remote": None, **facts}]


def test_a_missing_file_is_not_an_event():
    assert events_of(NotFound()) == []


def test_an_error_without_a_reason_was_audited_where_it_was_raised():
    assert events_of(QuotaExceeded("Too many wrong keys", retry_after=3)) == []


def test_weak_settings_are_audited_at_the_start(weak):
    found = counts(weak)
    events = [event for event in security_events(weak) if event["event"] == "security.config_weak"]

    assert found["config_weak", "svg_on"] == 1
    assert [(event["reason"], event["level"]) for event in events] == [("svg_on", "warning")]


def test_no_secret_is_logged():
    """Wrong keys, an unreachable Redis, purges and a stop; `serving` searches the log."""
    password = "planted-redis-password"
    url = f"redis://:{password}@127.0.0.1:1/0"
    with serving(workers_count=1, admin_key=KEY, redis_url=url, log_level="debug") as server:
        server.post("/api/admin/purge", {"all": True}, key=KEY)
        server.post("/api/admin/purge", {"all": True}, key=KEY[:-1])
        server.post("/api/admin/purge", {"url": "/img/../x"}, key=KEY)
        server.ask("/img/w_30/cat.png", headers={"Authorization": f"Bearer {KEY}"})
        pages = [server.ask(path).body.decode() for path in ("/metrics", "/api/image/health", "/api/health")]

    assert not any(secret in page for page in pages for secret in (KEY, password, str(SAMPLES)))
