"""schemathesis asks the server everything that docs/openapi.yaml describes, with values that fit and values that do
not, and judges each answer by it. `FUZZ_EXAMPLES=500` asks more, and other things each time."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.openapi import PAGE, operations
from tests.running_server import ROOT, serving

KEY = "a key of sixteen characters"
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "unsupported_method"),
    *("response_schema_conformance", "response_headers_conformance"),
)
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "")


@pytest.mark.timeout(0 if EXAMPLES else 120)
def test_every_answer_is_as_described(tmp_path):
    with serving(workers_count=1, admin_key=KEY, uploads_allow_origin="https://example.com") as server:
        ended = judge(f"http://127.0.0.1:{server.port}", tmp_path)
        asked = [event for event in server.events() if event["event"] == "request"]
        faults = [event for event in server.events() if event["event"] == "server.fault"]

    assert ended.returncode == 0, ended.stdout
    assert faults == []
    assert reached(tmp_path) == {f"{method} {path}" for path, method, _ in operations()}
    # That it has got to where the work is done.
    assert {200, 400, 404, 405} <= {event["status"] for event in asked if event["route"] == "image"}
    assert {200, 400} <= {event["status"] for event in asked if event["route"] == "optimize"}
    assert {200, 400, 401} <= {event["status"] for event in asked if event["route"] == "purge"}


class _Careless(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(418)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_the_judge_finds_what_is_not_described(tmp_path):
    with HTTPServer(("127.0.0.1", 0), _Careless) as careless:
        threading.Thread(target=careless.serve_forever).start()
        try:
            ended = judge(f"http://127.0.0.1:{careless.server_port}", tmp_path, "--include-path", "/livez")
        finally:
            careless.shutdown()

    assert ended.returncode == 1
    assert "Undocumented status code" in ended.stdout, ended.stdout


def reached(folder: Path) -> set[str]:
    """The operations that were asked, as in `GET /livez`, and whose answers were judged and found right."""
    events = [json.loads(line) for line in (folder / "report").read_text().splitlines()]
    ended = [event["ScenarioFinished"] for event in events if "ScenarioFinished" in event]
    return {one["recorder"]["label"] for one in ended if one["status"] == "success"}


def judge(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Its own database of what it found would make one run depend on those before."""
    command = [Path(sys.executable).with_name("schemathesis"), "run", PAGE, "--url", url, "--checks", ",".join(CHECKS)]
    bounds = ["--max-examples", EXAMPLES or "25", *(() if EXAMPLES else ("--seed", "1"))]
    report = ["--report", "ndjson", "--report-ndjson-path", folder / "report", "--no-color"]
    key = ["--header", f"Authorization: Bearer {KEY}", "--generation-database", ":memory:"]
    return subprocess.run(
        [*command, *bounds, *report, *key, *options],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.conformance.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
