"""httplint, an independent checker, on every kind of response of a real server."""

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
class Case:
    status: int
    target: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    # Notes of httplint that are no fault here; the reason stands above the case.
    allowed: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.status} {self.method} {self.target[:30]} {' '.join(self.headers)}".strip()


PREFLIGHT = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}
KINDS = (
    Case(200, PICTURE),
    Case(200, PICTURE, "HEAD"),
    Case(200, PICTURE, headers={"Origin": "https://shop.example"}),
    Case(200, "/img/w_50,f_auto/cat.png", headers={"Accept": "image/webp"}),
    # httplint follows the MIME sniffing standard, which does not know AVIF.
    Case(200, "/img/w_50,f_avif/cat.png", allowed=frozenset({"CONTENT_TYPE_MISMATCH"})),
    Case(200, "/img/w_50,fl_attachment/cat.png"),
    Case(200, "/img/f_info/cat.png"),
    Case(200, f"{PICTURE}?v=1"),
    Case(204, PICTURE, "OPTIONS", PREFLIGHT),
    Case(204, PICTURE, "OPTIONS"),
    Case(206, PICTURE, headers={"Range": "bytes=0-9"}),
    Case(304, PICTURE, headers={"If-None-Match": "*"}),
    Case(304, "/img/w_50,f_auto/cat.png", headers={"If-None-Match": "*"}),
    # The note says that the request was wrong, which is intended.
    Case(400, "/img/w_x/cat.png", allowed=frozenset({"STATUS_BAD_REQUEST"})),
    Case(401, "/api/admin/purge", "POST", {"Content-Length": "0"}),
    Case(401, "/api/image/optimize", "POST", {"Content-Length": "0"}),
    Case(404, "/img/w_50/nosuch.png"),
    Case(404, "/img/w_50,f_auto/nosuch.png"),
    # A 404 from the negative cache.
    Case(404, "/img/w_51/nosuch.png"),
    Case(404, "/nosuch"),
    Case(405, PICTURE, "DELETE"),
    # The note on the wrong request has the level "bad" here.
    Case(414, "/img/" + "a" * 8080, allowed=frozenset({"STATUS_URI_TOO_LONG"})),
    Case(415, "/img/w_50/text.jpg"),
    Case(416, PICTURE, headers={"Range": "bytes=9999999-"}),
    Case(422, "/img/w_50/torn.png"),
    Case(422, "/img/w_50/torn.png", headers={"Origin": "https://shop.example"}),
    Case(501, "/img/l_cat.png,w_9/cat.png"),
    Case(403, "/img/s--abcdefghijklmnopqrstuv--/cat.png"),
    Case(405, "/livez", "POST", {"Content-Length": "0"}),
    Case(200, "/livez"),
    Case(200, "/readyz"),
    Case(200, "/api/health"),
    Case(200, "/api/image/health"),
    Case(200, "/metrics"),
    Case(200, "/"),
)

# With every optional header enabled.
OPTIONAL_HEADERS = (
    Case(200, PICTURE),
    Case(200, PICTURE, "HEAD"),
    Case(200, f"{PICTURE}?v=1"),
    Case(206, f"{PICTURE}?v=1", headers={"Range": "bytes=0-9"}),
    Case(304, PICTURE, headers={"If-None-Match": "*"}),
    Case(304, f"{PICTURE}?v=1", headers={"If-None-Match": "*"}),
    Case(416, PICTURE, headers={"Range": "bytes=9999999-"}),
    # Each header in this Vary can change the image; docs/urls.md says so.
    Case(
        200,
        "/img/w_auto,f_auto,q_auto/cat.png",
        headers={"Sec-CH-Width": "300", "Save-Data": "on"},
        allowed=frozenset({"VARY_COMPLEX"}),
    ),
    Case(200, "/img/w_50,dpr_auto/cat.png", headers={"Sec-CH-DPR": "2"}),
    Case(304, "/img/w_auto/cat.png", headers={"If-None-Match": "*"}),
    Case(404, "/img/w_auto/nosuch.png"),
    Case(204, PICTURE, "OPTIONS", PREFLIGHT),
    Case(204, PICTURE, "OPTIONS"),
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("photos")
    shutil.copy(SAMPLES / "cat.png", folder)
    _spoil(folder)
    with serving(folder, workers_count=1, disk_limit_bytes=0, admin_key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def enabled() -> Iterator[ServerProcess]:
    """A server with every optional header enabled."""
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


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_httplint_finds_only_the_notes_that_are_allowed(plain, case):
    answer = plain.ask(case.target, case.method, case.headers)

    assert answer.status == case.status
    assert {name for _, name in lint(case, answer, plain.port)} == case.allowed


@pytest.mark.parametrize("case", OPTIONAL_HEADERS, ids=str)
def test_httplint_finds_nothing_with_every_header_enabled(enabled, case):
    answer = enabled.ask(case.target, case.method, case.headers)

    assert answer.status == case.status
    assert {name for _, name in lint(case, answer, enabled.port)} == case.allowed


def test_httplint_finds_nothing_in_a_stale_response():
    case = Case(200, PICTURE)
    with serving(workers_count=1, disk_limit_bytes=0, cache_ttl_seconds=1, http_server_timing="true") as server:
        seen = [server.ask(PICTURE)]
        wait_until(lambda: seen.append(server.ask(PICTURE)) or "stale" in seen[-1].cache_status, "a stale one")

        assert lint(case, seen[-1], server.port) == set()


def test_httplint_finds_a_wrong_header(plain):
    """Without this, the other tests would prove nothing."""
    case = Case(200, PICTURE)
    answer = plain.ask(PICTURE)
    answer.headers.replace_header("Content-Length", "7")

    assert ("bad", "CL_INCORRECT") in lint(case, answer, plain.port)


def lint(case: Case, answer: Answer, port: int) -> set[tuple[str, str]]:
    """Level and name of every note that is bad or a warning."""
    request = HttpRequestLinter(start_time=time.time())
    request.process_request_topline(case.method.encode(), case.target.encode(), b"HTTP/1.1")
    request.process_headers(_fields({"Host": f"127.0.0.1:{port}", **case.headers}))
    request.finish_content(True)
    response = HttpResponseLinter(start_time=time.time(), no_content=case.method == "HEAD", _related=request)
    response.process_response_topline(b"HTTP/1.1", str(answer.status).encode(), b"")
    response.process_headers(_fields(answer.headers))
    response.feed_content(answer.body)
    response.finish_content(True)
    found = {(note.level.value, type(note).__name__) for note in response.notes}
    return {(level, name) for level, name in found if level in ("bad", "warning")}


def _fields(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
