"""Probes, health, metrics and the gallery."""

import json
import os
import re
import resource
import shutil
import subprocess
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.observability import metrics
from imgserver.settings.schema import ServerSettings, Settings
from imgserver.sources.folder import FolderSource
from imgserver.web.app import make_app
from imgserver.web.gallery import Gallery
from tests.running_server import SAMPLES, ServerProcess, serving, wait_until


def test_a_serving_process_is_alive_and_ready(server: ServerProcess):
    assert server.ask("/livez").status == 200
    assert server.ask("/readyz").json() == {"status": "ok"}
    assert server.ask("/api/health").json()["status"] == "ok"


def test_image_health_reports_workers_queue_cache_codecs_and_versions(server):
    facts = server.image_health()

    assert facts["workers"]["idle"] + facts["workers"]["busy"] == 2
    assert facts["queue"]["limit"] == 256
    assert facts["cache"]["tiers"]["memory"]["limit_bytes"] == 64 << 20
    assert {"jpg", "png", "webp", "avif", "gif"} <= set(facts["codecs"]["write"])
    assert facts["versions"]["imgserver"]


def test_image_health_is_reported_when_no_file_can_be_opened():
    with (
        serving(workers_count=1) as server,
        closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection,
    ):
        connection.request("GET", "/livez")
        connection.getresponse().read()
        wait_until(lambda: server.image_health()["workers"]["spare"] == 1, "all workers are up")
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        connection.request("GET", "/api/image/health")
        answer = connection.getresponse()

        assert (answer.status, json.loads(answer.read())["status"]) == (200, "ok")
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (hard, hard))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)")
def test_promtool_accepts_the_metrics(server):
    server.ask("/img/w_60/cat.png")
    text = server.ask("/metrics").body
    judged = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)

    assert (judged.returncode, judged.stdout + judged.stderr) == (0, b"")


def test_every_declared_series_is_scraped(server):
    server.ask("/img/w_60/cat.png")
    text = server.ask("/metrics").body.decode()
    scraped = set(re.findall(rf"^# TYPE {metrics.PREFIX}(\S+)", text, re.MULTILINE))

    assert {series.name for series in metrics.STATE} <= scraped
    assert "http_request_duration_seconds" in scraped


def test_every_image_request_has_one_outcome(server):
    def counted(name: str, *, having: str = "") -> float:
        lines = server.ask("/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{") and having in line)

    before = {name: server.metric("imgserver_lookups_total", outcome=name) for name in metrics.OUTCOMES}
    etag = server.ask("/img/w_61/cat.png").headers["ETag"]
    server.ask("/img/w_61/cat.png")
    server.ask("/img/w_61/cat.png", headers={"If-None-Match": etag})
    server.ask("/img/w_x/cat.png")
    server.ask("/img/none.png")
    after = {name: server.metric("imgserver_lookups_total", outcome=name) for name in metrics.OUTCOMES}

    grown = {name: after[name] - before[name] for name in metrics.OUTCOMES if after[name] != before[name]}
    assert grown == {"rendered": 1, "hit": 1, "not_modified": 1, "refused": 2}
    assert counted("imgserver_lookups_total") == counted("imgserver_http_requests_total", having='route="image"')


def test_renders_are_counted_by_formats_and_result(server):
    done = {"input": "png", "output": "webp", "result": "ok"}
    refused = {"input": "unknown", "output": "webp", "result": "refused"}
    before = [server.metric("imgserver_images_total", **labels) for labels in (done, refused)]
    server.ask("/img/w_62,f_webp/cat.png")
    server.ask("/img/w_62,f_webp/ATTRIBUTION.md")
    after = [server.metric("imgserver_images_total", **labels) for labels in (done, refused)]

    assert [new - old for old, new in zip(before, after, strict=True)] == [1, 1]


def test_unknown_paths_and_methods_share_their_labels(server):
    for number in range(20):
        server.ask(f"/unknown/{number}", "GET")
        server.ask(f"/img/{number}", f"X{number}")
    text = server.ask("/metrics").body.decode()

    assert "/unknown/" not in text
    assert 'method="X1"' not in text
    assert server.metric("imgserver_http_requests_total", route="other", method="GET", status="404") >= 20


def test_a_request_is_one_line_of_json_whatever_its_target_is(server):
    targets = {"traced-1": "/img/w_50/cat.png", "traced-2": "/img/%0aevil%1b%5b31m" + "x" * 1000}
    for request_id, target in targets.items():
        server.ask(target, headers={"X-Request-Id": request_id})

    def traced() -> list[dict[str, Any]]:
        requests = [event for event in server.events() if event["event"] == "request"]
        return [event for event in requests if event["request_id"] in targets]

    wait_until(lambda: len(traced()) == 2, "both events are written")
    first, second = traced()

    assert (first["status"], first["route"]) == (200, "image")
    assert first["outcome"] in ("rendered", "hit")
    assert first["target"] == "/img/w_50/cat.png"
    assert [event["error"] for event in (first, second)] == [None, "bad-source-path"]
    assert len(second["target"]) <= 201


def test_the_gallery_shows_the_folder_with_images_of_this_server(server):
    page = server.ask("/")
    sources = re.findall(r'<img src="([^"]+)"', page.body.decode())

    answers = [server.ask(source) for source in sources]

    assert page.headers["Content-Type"].startswith("text/html")
    assert [answer.status for answer in answers] == [200] * 9
    assert {answer.headers["Cache-Control"] for answer in answers} == {"max-age=31536000, immutable"}
    assert "script" not in page.headers["Content-Security-Policy"]


async def test_the_gallery_omits_files_that_no_url_can_name(tmp_path):
    for name in ("back\\slash.jpg", ".hidden.jpg", "notes.txt", os.fsdecode(b"\xff.jpg"), "a b#1.jpg"):
        (tmp_path / name).write_bytes((SAMPLES / "autumn.jpg").read_bytes())
    folder = FolderSource(tmp_path)
    gallery = Gallery(folder, NativeDialect(NativeSettings(), {"photos"}, "photos"), name="photos", title="")
    page = await gallery(make_mocked_request("GET", "/"))
    await folder.close()

    assert page.status == 200
    assert re.findall(r'<img src="([^"]+)"', page.text or "") == ["/img/w_400,ar_3:2,g_auto,f_auto/a%20b%231.jpg"]


def test_the_gallery_has_no_route_when_it_is_off():
    settings = Settings(server=ServerSettings(gallery="off"))
    routes = {resource.canonical for resource in make_app(settings).router.resources()}

    assert "/" not in routes
    assert "/metrics" in routes
