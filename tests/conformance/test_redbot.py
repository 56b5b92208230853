"""redbot, a critic of HTTP answers: it asks the live server itself, plainly, with gzip, conditions and ranges."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

# Warnings that are no fault of ours, each with its reason.
ALLOWED = {
    # It tells that the request was wrong, which it was.
    "/img/w_x/cat.png": {"STATUS_BAD_REQUEST"},
}
PICTURES = ("/img/w_50/cat.png", "/img/w_50,f_auto/cat.png", "/img/w_50,f_webp/cat.png")
TARGETS = (*PICTURES, "/img/f_info/cat.png", "/img/w_50/nosuch.png", "/img/w_50,f_auto/nosuch.png", *ALLOWED, "/livez")
# That it has tried, and found right: conditions by ETag and by date, and a range.
FOUND_RIGHT = {"INM_304", "IMS_304", "RANGE_CORRECT"}


@pytest.mark.parametrize("target", TARGETS)
def test_an_answer_has_no_fault_that_is_not_written_down_here(server, target):
    notes = judge(f"http://127.0.0.1:{server.port}{target}")

    assert {name for level, name in notes if level in ("BAD", "WARN")} == ALLOWED.get(target, set())
    assert {level for level, _ in notes} <= {"GOOD", "INFO", "WARN", "BAD"}
    if target in PICTURES:
        assert {name for level, name in notes if level == "GOOD"} >= FOUND_RIGHT


class _Careless(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("Expires", "soon")
        self.end_headers()
        self.wfile.write(b"ab")

    def log_message(self, *_):
        pass


def test_the_judge_finds_what_is_wrong():
    """Else all of the above says nothing."""
    with HTTPServer(("127.0.0.1", 0), _Careless) as careless:
        threading.Thread(target=careless.serve_forever).start()
        try:
            notes = judge(f"http://127.0.0.1:{careless.server_port}/")
        finally:
            careless.shutdown()

    assert "BAD" in {level for level, _ in notes}


def judge(url: str) -> set[tuple[str, str]]:
    """(level, name) of every note. The exit status is always 0; only the report tells."""
    command = [str(Path(sys.executable).with_name("redbot")), "-o", "har", url]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    entries = report["log"]["entries"]
    assert entries and all(entry["response"]["status"] for entry in entries)
    return {(note["level"], note["note_id"]) for entry in entries for note in entry["_red_messages"]}
