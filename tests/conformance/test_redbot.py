"""redbot, a linter for HTTP: it sends plain, gzip, conditional and range requests to the live server."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

# Warnings that are expected, each with its reason.
ALLOWED = {
    # The request is wrong on purpose.
    "/img/w_x/cat.png": {"STATUS_BAD_REQUEST"},
}
PICTURES = ("/img/w_50/cat.png", "/img/w_50,f_auto/cat.png", "/img/w_50,f_webp/cat.png")
TARGETS = (*PICTURES, "/img/f_info/cat.png", "/img/w_50/nosuch.png", "/img/w_50,f_auto/nosuch.png", *ALLOWED, "/livez")
# Checks that must have run and passed: If-None-Match, If-Modified-Since, and a range.
PASSED = {"INM_304", "IMS_304", "RANGE_CORRECT"}


@pytest.mark.parametrize("target", TARGETS)
def test_redbot_finds_only_the_expected_warnings(server, target):
    notes = lint(f"http://127.0.0.1:{server.port}{target}")

    assert {name for level, name in notes if level in ("BAD", "WARN")} == ALLOWED.get(target, set())
    assert {level for level, _ in notes} <= {"GOOD", "INFO", "WARN", "BAD"}
    if target in PICTURES:
        assert {name for level, name in notes if level == "GOOD"} >= PASSED


class _WrongServer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("Expires", "soon")
        self.end_headers()
        self.wfile.write(b"ab")

    def log_message(self, *_):
        pass


def test_redbot_finds_a_wrong_response():
    """Without this, the test above could pass because redbot does not run."""
    with HTTPServer(("127.0.0.1", 0), _WrongServer) as wrong:
        threading.Thread(target=wrong.serve_forever).start()
        try:
            notes = lint(f"http://127.0.0.1:{wrong.server_port}/")
        finally:
            wrong.shutdown()

    assert "BAD" in {level for level, _ in notes}


def lint(url: str) -> set[tuple[str, str]]:
    """(level, name) of every note. redbot always exits with 0; the report has the result."""
    command = [str(Path(sys.executable).with_name("redbot")), "-o", "har", url]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    entries = report["log"]["entries"]
    assert entries and all(entry["response"]["status"] for entry in entries)
    return {(note["level"], note["note_id"]) for entry in entries for note in entry["_red_messages"]}
