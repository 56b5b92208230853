"""An outside judge, httplint, over every kind of answer of a real server."""

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter

from tests.running_server import SAMPLES, Answer, ServerProcess, serving, wait_until

KEY = "a key of sixteen characters"
PICTURE = "/img/w_50/cat.png"


@dataclass(frozen=True)
class Asked:
    status: int
    target: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    # Notes of the judge that are no fault of ours here; each with its reason where it stands.
    allowed: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.status} {self.method} {self.target[:30]} {' '.join(self.headers)}".strip()


PREFLIGHT = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}
KINDS = (
    Asked(200, PICTURE),
    Asked(200, PICTURE, "HEAD"),
    Asked(200, PICTURE, headers={"Origin": "https://shop.example"}),
    Asked(200, "/img/w_50,f_auto/cat.png", headers={"Accept": "image/webp"}),
    # The sniffing standard, by which it judges, knows no AVIF.
    Asked(200, "/img/w_50,f_avif/cat.png", allowed=frozenset({"CONTENT_TYPE_MISMATCH"})),
    Asked(200, "/img/w_50,fl_attachment/cat.png"),
    Asked(200, "/img/f_info/cat.png"),
    Asked(200, f"{PICTURE}?v=1"),
    Asked(204, PICTURE, "OPTIONS", PREFLIGHT),
    Asked(204, PICTURE, "OPTIONS"),
    Asked(206, PICTURE, headers={"Range": "bytes=0-9"}),
    Asked(304, PICTURE, headers={"If-None-Match": "*"}),
    Asked(304, "/img/w_50,f_auto/cat.png", headers={"If-None-Match": "*"}),
    # It tells that the request was wrong, which it was.
    Asked(400, "/img/w_x/cat.png", allowed=frozenset({"STATUS_BAD_REQUEST"})),
    Asked(401, "/api/admin/purge", "POST", {"Content-Length": "0"}),
    Asked(401, "/api/image/optimize", "POST", {"Content-Length": "0"}),
    Asked(404, "/img/w_50/nosuch.png"),
    Asked(404, "/img/w_50,f_auto/nosuch.png"),
    # The same, out of the server's memory.
    Asked(404, "/img/w_51/nosuch.png"),
    Asked(404, "/nosuch"),
    Asked(405, PICTURE, "DELETE"),
    # The same, and here it calls that bad.
    Asked(414, "/img/" + "a" * 8080, allowed=frozenset({"STATUS_URI_TOO_LONG"})),
    Asked(415, "/img/w_50/text.jpg"),
    Asked(416, PICTURE, headers={"Range": "bytes=9999999-"}),
    Asked(422, "/img/w_50/torn.png"),
    Asked(422, "/img/w_50/torn.png", headers={"Origin": "https://shop.example"}),
    Asked(501, "/img/l_cat.png,w_9/cat.png"),
    Asked(403, "/img/s--abcdefghijklmnopqrstuv--/cat.png"),
    Asked(405, "/livez", "POST", {"Content-Length": "0"}),
    Asked(200, "/livez"),
    Asked(200, "/readyz"),
    Asked(200, "/api/health"),
    Asked(200, "/api/image/health"),
    Asked(200, "/metrics"),
    Asked(200, "/"),
)

# With all that can be switched on.
DRESSED = (
    Asked(200, PICTURE),
    Asked(200, PICTURE, "HEAD"),
    Asked(200, f"{PICTURE}?v=1"),
    Asked(206, f"{PICTURE}?v=1", headers={"Range": "bytes=0-9"}),
    Asked(304, PICTURE, headers={"If-None-Match": "*"}),
    Asked(304, f"{PICTURE}?v=1", headers={"If-None-Match": "*"}),
    Asked(416, PICTURE, headers={"Range": "bytes=9999999-"}),
    # Each of these fields can change this picture; who asks for all of them is told so in the documentation.
    Asked(
        200,
        "/img/w_auto,f_auto,q_auto/cat.png",
        headers={"Sec-CH-Width": "300", "Save-Data": "on"},
        allowed=frozenset({"VARY_COMPLEX"}),
    ),
    Asked(200, "/img/w_50,dpr_auto/cat.png", headers={"Sec-CH-DPR": "2"}),
    Asked(304, "/img/w_auto/cat.png", headers={"If-None-Match": "*"}),
    Asked(404, "/img/w_auto/nosuch.png"),
    Asked(204, PICTURE, "OPTIONS", PREFLIGHT),
    Asked(204, PICTURE, "OPTIONS"),
)


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("photos")
    shutil.copy(SAMPLES / "cat.png", folder)
    _spoil(folder)
    with serving(folder, workers_count=1, disk_limit_bytes=0, admin_key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def dressed() -> Iterator[ServerProcess]:
    with serving(
        workers_count=1,
        disk_limit_bytes=0,
        tags_cats="cat*",
        http_cdn_max_age_seconds=7200,
        http_surrogate_key="true",
        http_cache_tag="true",
        http_server_timing="true",
        http_client_hints="true",
    ) as running:
        yield running


def _spoil(folder: Path) -> None:
    (folder / "text.jpg").write_text("no picture at all")
    (folder / "torn.png").write_bytes((folder / "cat.png").read_bytes()[:5000])


@pytest.mark.parametrize("asked", KINDS, ids=str)
def test_an_answer_has_no_fault_that_is_not_written_down_here(judged, asked):
    answer = judged.ask(asked.target, asked.method, asked.headers)

    assert answer.status == asked.status
    assert {name for _, name in lint(asked, answer, judged.port)} == asked.allowed


@pytest.mark.parametrize("asked", DRESSED, ids=str)
def test_nothing_that_is_switched_on_is_a_fault(dressed, asked):
    answer = dressed.ask(asked.target, asked.method, asked.headers)

    assert answer.status == asked.status
    assert {name for _, name in lint(asked, answer, dressed.port)} == asked.allowed


def test_a_stale_answer_has_no_fault():
    asked = Asked(200, PICTURE)
    with serving(workers_count=1, disk_limit_bytes=0, cache_ttl_seconds=1, http_server_timing="true") as server:
        seen = [server.ask(PICTURE)]
        wait_until(lambda: seen.append(server.ask(PICTURE)) or "stale" in seen[-1].cache_status, "a stale one")

        assert lint(asked, seen[-1], server.port) == set()


def test_the_judge_finds_what_is_wrong(judged):
    """Else all of the above says nothing."""
    asked = Asked(200, PICTURE)
    answer = judged.ask(PICTURE)
    answer.headers.replace_header("Content-Length", "7")

    assert ("bad", "CL_INCORRECT") in lint(asked, answer, judged.port)


def lint(asked: Asked, answer: Answer, port: int) -> set[tuple[str, str]]:
    """(level, name) of every note that is bad or a warning."""
    request = HttpRequestLinter(start_time=time.time())
    request.process_request_topline(asked.method.encode(), asked.target.encode(), b"HTTP/1.1")
    request.process_headers(_fields({"Host": f"127.0.0.1:{port}", **asked.headers}))
    request.finish_content(True)
    response = HttpResponseLinter(start_time=time.time(), no_content=asked.method == "HEAD", _related=request)
    response.process_response_topline(b"HTTP/1.1", str(answer.status).encode(), b"")
    response.process_headers(_fields(answer.headers))
    response.feed_content(answer.body)
    response.finish_content(True)
    found = {(note.level.value, type(note).__name__) for note in response.notes}
    return {(level, name) for level, name in found if level in ("bad", "warning")}


def _fields(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
