"""schemathesis requests every operation of docs/openapi.yaml with valid and invalid values and validates each response.

`FUZZ_EXAMPLES=500` makes more requests, and different ones in each run."""

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
def test_every_response_conforms_to_the_openapi_document(tmp_path):
    with serving(workers_count=1, admin_key=KEY, uploads_allow_origin="https://example.com") as server:
        ended = run(f"http://127.0.0.1:{server.port}", tmp_path)
        asked = [event for event in server.events() if event["event"] == "request"]
        faults = [event for event in server.events() if event["event"] == "server.fault"]

    assert ended.returncode == 0, ended.stdout
    assert faults == []
    assert reached(tmp_path) == {f"{method} {path}" for path, method, _ in operations()}
    # The requests have reached the handlers, not only the parsers.
    assert {200, 400, 404, 405} <= {event["status"] for event in asked if event["route"] == "image"}
    assert {200, 400} <= {event["status"] for event in asked if event["route"] == "optimize"}
    assert {200, 400, 401} <= {event["status"] for event in asked if event["route"] == "purge"}


class _WrongServer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(418)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_schemathesis_finds_an_undocumented_status(tmp_path):
    with HTTPServer(("127.0.0.1", 0), _WrongServer) as wrong:
        threading.Thread(target=wrong.serve_forever).start()
        try:
            ended = run(f"http://127.0.0.1:{wrong.server_port}", tmp_path, "--include-path", "/livez")
        finally:
            wrong.shutdown()

    assert ended.returncode == 1
    assert "Undocumented status code" in ended.stdout, ended.stdout


def reached(folder: Path) -> set[str]:
    """The operations, such as `GET /livez`, that were requested and whose responses are valid."""
    events = [json.loads(line) for line in (folder / "report").read_text().splitlines()]
    ended = [event["ScenarioFinished"] for event in events if "ScenarioFinished" in event]
    return {one["recorder"]["label"] for one in ended if one["status"] == "success"}


def run(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Examples are kept in memory: a database on disk would make one run depend on earlier runs."""
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
