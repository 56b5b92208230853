"""The headers of responses, on a real server with default settings and on one with every optional header enabled."""

import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import http_sf
import pytest
from aiohttp.test_utils import make_mocked_request
from PIL import Image

from imgserver.cache.cache_tags import tag_group
from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.engine.job import Quality
from imgserver.errors import ImgserverError
from imgserver.headers.caching import Cacheability, error_cache_control
from imgserver.headers.negotiation import WIDTHS
from imgserver.plan.plan import ImageRequest, Plan, SourceRef
from imgserver.rendering.variants import PipelineVersion, RenderRequest
from imgserver.settings.schema import HttpSettings
from imgserver.testing import make_rendition
from imgserver.web import problem
from imgserver.web.images.handler import ImageHandler
from imgserver.web.images.request_cache import MAX_VARIANTS
from imgserver.web.images.response_headers import ResponseHeaders
from tests.running_server import SAMPLES, Answer, ServerProcess, serving, wait_until

KEY = "a key of sixteen characters"
GRACES = "stale-while-revalidate=86400, stale-if-error=86400"
SHORT = f"max-age=300, {GRACES}"
FOR_GOOD = "max-age=31536000, immutable"
# In a target, <version> is the version of cat.png.
PREFLIGHT = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}


def version_of(server: ServerProcess, path: str) -> str:
    version = server.ask(f"/img/f_info/{path}").json()["original"]["version"]
    assert re.fullmatch("[0-9a-f]{16}", version)
    return version


@pytest.fixture
def version(server) -> str:
    return version_of(server, "cat.png")


@pytest.fixture(scope="module")
def enabled(tmp_path_factory) -> Iterator[ServerProcess]:
    """A server with every optional header enabled."""
    with serving(
        _photos(tmp_path_factory.mktemp("photos")),
        workers_count=1,
        disk_limit_bytes=0,
        admin_key=KEY,
        tags_cats="team/",
        tags_pngs="*.png",
        http_cdn_max_age_seconds=7200,
        http_surrogate_key="true",
        http_cache_tag="true",
        http_server_timing="true",
        http_client_hints="true",
    ) as running:
        yield running


def _photos(folder: Path) -> Path:
    (folder / "team").mkdir()
    shutil.copy(SAMPLES / "cat.png", folder / "team")
    shutil.copy(SAMPLES / "autumn.jpg", folder)
    (folder / "text.jpg").write_text("no picture at all")
    (folder / "torn.png").write_bytes((SAMPLES / "cat.png").read_bytes()[:5000])
    # A broken file that is younger than a minute may still be being written.
    os.utime(folder / "torn.png", (1_700_000_000,) * 2)
    return folder


def status_of(answer: Answer) -> dict[str, object]:
    """Cache-Status, parsed as a structured field, with tokens as text."""
    ((name, facts),) = http_sf.parse(answer.headers["Cache-Status"].encode(), tltype="list")
    assert str(name) == "imgserver"
    return {key: str(value) if isinstance(value, http_sf.Token) else value for key, value in facts.items()}


@pytest.mark.parametrize(
    ("method", "target", "headers", "status", "expected"),
    [
        ("GET", "/img/w_50/cat.png", {}, 200, SHORT),
        ("HEAD", "/img/w_50/cat.png", {}, 200, SHORT),
        ("GET", "/img/w_50/cat.png?", {}, 200, SHORT),
        ("GET", "/img/w_50/cat.png?v=", {}, 200, SHORT),
        ("GET", "/img/w_50/cat.png?version=1", {}, 200, SHORT),
        ("GET", "/img/w_50/cat.png?v=1", {}, 200, SHORT),
        ("GET", "/img/w_50/cat.png?v=0000000000000000", {}, 200, SHORT),
        ("GET", "/img/w_50/cat.png?V=<version>", {}, 200, SHORT),
        ("GET", "/img/w_50/cat.png?v=<version>0", {}, 200, SHORT),
        ("GET", "/img/w_50/dogs.jpg?v=<version>", {}, 200, SHORT),
        ("GET", "/img/w_50/cat.png?v=<version>", {}, 200, FOR_GOOD),
        ("HEAD", "/img/w_50/cat.png?v=<version>", {}, 200, FOR_GOOD),
        ("GET", "/img/w_50/cat.png?utm_source=mail&v=<version>", {}, 200, FOR_GOOD),
        ("GET", "/img/w_50,f_auto/cat.png?v=<version>", {"Accept": "image/webp"}, 200, FOR_GOOD),
        ("GET", "/img/f_info/cat.png?v=<version>", {}, 200, FOR_GOOD),
        ("GET", "/img/w_50/cat.png", {"If-None-Match": "*"}, 304, SHORT),
        ("GET", "/img/w_50/cat.png?v=1", {"If-None-Match": "*"}, 304, SHORT),
        ("GET", "/img/w_50/cat.png?v=<version>", {"If-None-Match": "*"}, 304, FOR_GOOD),
        ("GET", "/img/w_50/cat.png?v=<version>", {"Range": "bytes=0-9"}, 206, FOR_GOOD),
        ("GET", "/img/w_50/cat.png?v=<version>", {"Range": "bytes=9999999-"}, 416, "no-store"),
        ("GET", "/img/w_x/cat.png?v=1", {}, 400, "max-age=300"),
        ("GET", "/img/w_9999/cat.png?v=1", {}, 400, "max-age=300"),
        ("GET", "/img/s--abcdefghijklmnopqrstuv--/cat.png", {}, 403, "no-store"),
        ("GET", "/img/https://example.com/cat.png", {}, 403, "no-store"),
        ("GET", "/img/w_50/nosuch.png?v=1", {}, 404, "max-age=30"),
        ("GET", "/img/w_50/", {}, 400, "max-age=300"),
        ("GET", "/img/" + "a" * 8050, {}, 414, "max-age=300"),
        ("GET", "/img/w_50/ATTRIBUTION.md", {}, 415, "max-age=300"),
        ("GET", "/img/l_cat.png,w_9/cat.png", {}, 501, "max-age=300"),
        ("DELETE", "/img/w_50/cat.png", {}, 405, "no-store"),
        ("OPTIONS", "/img/w_50/cat.png", PREFLIGHT, 204, "max-age=86400"),
        ("OPTIONS", "/img/w_50/cat.png", {}, 204, "no-store"),
        ("GET", "/nosuch", {}, 404, "no-store"),
        ("GET", "/api/admin/purge", {}, 404, "no-store"),
        ("GET", "/livez", {}, 200, "no-store"),
        ("GET", "/readyz", {}, 200, "no-store"),
        ("GET", "/api/health", {}, 200, "no-store"),
        ("GET", "/api/image/health", {}, 200, "no-store"),
        ("GET", "/metrics", {}, 200, "no-store"),
        ("GET", "/", {}, 200, "no-store"),
    ],
)
def test_every_response_has_its_cache_lifetime(server, version, method, target, headers, status, expected):
    answer = server.ask(target.replace("<version>", version), method, headers)

    assert (answer.status, answer.headers.get_all("Cache-Control")) == (status, [expected])


def test_the_error_of_a_broken_original_may_be_cached_for_ten_minutes(enabled):
    answer = enabled.ask("/img/w_50/torn.png")

    assert (answer.status, answer.headers["Cache-Control"]) == (422, "max-age=600")


# Seconds by status; 0 is no-store.
KEPT_SECONDS = {
    400: {0, 300},
    401: {0},
    403: {0},
    404: {30},
    408: {0},
    409: {0},
    410: {3600},
    412: {0},
    413: {0},
    414: {300},
    415: {300},
    422: {600},
    429: {0},
    431: {0},
    500: {0},
    501: {300},
    502: {0},
    503: {0},
    504: {0},
}


@pytest.mark.parametrize(("status", "expected"), KEPT_SECONDS.items())
def test_every_error_has_the_cache_lifetime_of_its_status(status, expected):
    kinds = [kind for kind in _tree(ImgserverError) if kind.__module__ == "imgserver.errors" and kind.status == status]

    assert kinds
    assert {kind.cache_seconds for kind in kinds} == expected
    assert error_cache_control(0) == "no-store"


@pytest.mark.parametrize("status", KEPT_SECONDS)
def test_only_429_and_503_have_retry_after(status):
    for kind in (kind for kind in _tree(ImgserverError) if kind.status == status):
        answer = problem.answer(kind(), "")

        assert answer.headers["Cache-Control"] == error_cache_control(kind.cache_seconds)
        assert answer.headers.get("Retry-After") == ("1" if status in (429, 503) else None)


def test_the_table_has_every_error():
    assert {kind.status for kind in _tree(ImgserverError)} == set(KEPT_SECONDS)


def _tree(kind: type[ImgserverError]) -> list[type[ImgserverError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


def test_disabled_headers_are_not_sent(server):
    answer = server.ask("/img/w_50/cat.png")

    for name in ("CDN-Cache-Control", "Surrogate-Key", "Cache-Tag", "Server-Timing", "Accept-CH", "Vary"):
        assert name not in answer.headers, name
    assert "detail" not in status_of(answer)


@pytest.mark.parametrize(
    ("target", "headers", "status", "expected"),
    [
        ("/img/w_60/team/cat.png", {}, 200, f"max-age=7200, {GRACES}"),
        ("/img/w_60/team/cat.png", {"If-None-Match": "*"}, 304, f"max-age=7200, {GRACES}"),
        ("/img/w_60/team/cat.png?v=1", {}, 200, f"max-age=7200, {GRACES}"),
        ("/img/w_60/team/cat.png?v=<version>", {}, 200, FOR_GOOD),
        ("/img/w_60/team/cat.png", {"Range": "bytes=9999999-"}, 416, None),
        ("/img/w_60/nosuch.png", {}, 404, None),
    ],
)
def test_cdns_get_a_lifetime_of_their_own(enabled, target, headers, status, expected):
    answer = enabled.ask(target.replace("<version>", version_of(enabled, "team/cat.png")), headers=headers)

    assert (answer.status, answer.headers["CDN-Cache-Control"]) == (status, expected)
    assert answer.headers["Cache-Control"] != expected or expected == FOR_GOOD


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("GET", {}, 200), ("HEAD", {}, 200), ("GET", {"If-None-Match": "*"}, 304), ("GET", {"Range": "bytes=0-9"}, 206)],
)
def test_groups_are_sent_in_the_header_of_every_cdn(enabled, method, headers, status):
    answer = enabled.ask("/img/w_61/team/cat.png", method, headers)
    groups = [str(group) for group, _ in http_sf.parse(answer.headers["Cache-Groups"].encode(), tltype="list")]

    assert answer.status == status
    assert len(groups) == 6
    assert {tag_group("cats"), tag_group("pngs")} < set(groups)
    assert answer.headers["Surrogate-Key"].split(" ") == groups
    assert answer.headers["Cache-Tag"].split(",") == groups
    assert "cats" not in str(answer.headers)


def test_a_deep_original_has_sixteen_groups_at_most(tmp_path):
    deep = tmp_path.joinpath(*"abcdefghijklmnopqrstuvwxyz")
    deep.mkdir(parents=True)
    shutil.copy(SAMPLES / "cat.png", deep)
    with serving(tmp_path, workers_count=1, disk_limit_bytes=0, http_cache_tag="true") as server:
        answer = server.ask("/img/_/" + "/".join("abcdefghijklmnopqrstuvwxyz") + "/cat.png")

    assert len(answer.headers["Cache-Groups"].split(", ")) == len(answer.headers["Cache-Tag"].split(",")) == 16


def test_cache_status_has_the_remaining_freshness_and_matches_the_counters(server):
    def counts() -> dict[str, float]:
        names = ("hit", "rendered", "not_modified")
        return {name: server.metric("imgserver_lookups_total", outcome=name) for name in names}

    before = counts()
    rendered = server.ask("/img/w_405/coffee.png")
    hits = [server.ask("/img/w_405/coffee.png") for _ in range(3)]
    same = server.ask("/img/w_405/coffee.png", headers={"If-None-Match": rendered.headers["ETag"]})
    after = counts()

    assert status_of(rendered) == {"fwd": "uri-miss", "stored": True}
    for answer in (*hits, same):
        status = status_of(answer)
        assert status.keys() == {"hit", "ttl"}
        # The freshness is a day with a jitter of 10 %.
        assert 86_400 * 0.89 < status["ttl"] < 86_400 * 1.11
    assert {name: after[name] - before[name] for name in after} == {"hit": 3, "rendered": 1, "not_modified": 1}


def test_the_ttl_of_cache_status_decreases(server):
    server.ask("/img/w_406/coffee.png")
    first = status_of(server.ask("/img/w_406/coffee.png"))["ttl"]

    wait_until(lambda: status_of(server.ask("/img/w_406/coffee.png"))["ttl"] == first - 2, "two seconds less")


@pytest.mark.parametrize("query", ["", "?v=<version>"])
def test_a_stale_response_has_a_short_lifetime(query):
    with serving(workers_count=1, disk_limit_bytes=0, cache_ttl_seconds=1, http_cdn_max_age_seconds=7200) as server:
        target = "/img/w_141/cat.png" + query.replace("<version>", version_of(server, "cat.png"))
        seen = [server.ask(target)]
        wait_until(lambda: seen.append(server.ask(target)) or "stale" in status_of(seen[-1]).values(), "a stale one")

    status = status_of(seen[-1])
    assert (status["hit"], status["detail"]) == (True, "stale")
    assert -2 <= status["ttl"] <= 0
    for name in ("Cache-Control", "CDN-Cache-Control"):
        text = seen[-1].headers[name]
        # A rendition is served stale for up to 2.5 times its freshness.
        assert re.fullmatch(r"max-age=[012](, stale-while-revalidate=[12], stale-if-error=[12])?", text), text


def test_server_timing_has_the_stages_of_a_render_and_their_total(enabled):
    made = enabled.ask("/img/w_300,f_webp/autumn.jpg")
    hit = enabled.ask("/img/w_300,f_webp/autumn.jpg")
    stages = timing(made)

    assert list(stages) == ["cache", "queue", "fetch", "decode", "transform", "encode", "total"]
    assert stages["cache"] == "miss"
    assert stages["encode"] > 0
    assert sum(stages[name] for name in stages if name not in ("cache", "total")) <= stages["total"]
    assert stages["total"] <= made.seconds * 1000
    assert list(timing(hit)) == ["cache", "total"]
    assert timing(hit)["cache"] == status_of(hit)["detail"] == "memory"


def timing(answer: Answer) -> dict[str, float | str]:
    entries = http_sf.parse(answer.headers["Server-Timing"].encode(), tltype="list")
    return {str(name): str(facts["desc"]) if "desc" in facts else float(facts["dur"]) for name, facts in entries}


def test_cache_status_names_the_tier_after_a_restart(tmp_path):
    settings = {"workers_count": 1, "disk_path": tmp_path, "http_server_timing": "true"}
    with serving(**settings) as server:
        server.ask("/img/w_122/cat.png")
        wait_until(lambda: server.metric("imgserver_cache_entries", tier="disk") == 1, "it is on disk")
    with serving(**settings) as server:
        tiers = [status_of(server.ask("/img/w_122/cat.png"))["detail"] for _ in range(2)]

    assert tiers == ["disk", "memory"]


def size_of(answer: Answer) -> tuple[int, int]:
    return Image.open(io.BytesIO(answer.body)).size


def test_a_width_hint_sets_the_width_and_varies(enabled):
    answers = [
        enabled.ask("/img/w_auto/autumn.jpg", headers=headers)
        for headers in ({}, {"Sec-CH-Width": "300"}, {"Width": "310"}, {"Sec-CH-Width": "nonsense"})
    ]

    assert [size_of(answer)[0] for answer in answers] == [1280, 320, 320, 1280]
    assert [answer.headers["Vary"] for answer in answers] == ["Sec-CH-Width, Width"] * 4
    assert {answer.headers["Accept-CH"] for answer in answers} == {"Sec-CH-Width"}
    assert answers[2].cache_status == answers[3].cache_status == "imgserver; hit; detail=memory"


def test_a_dpr_hint_sets_the_pixel_ratio(enabled):
    answer = enabled.ask("/img/w_100,dpr_auto/autumn.jpg", headers={"Sec-CH-DPR": "1.9"})

    assert size_of(answer)[0] == 200
    assert answer.headers["Vary"] == "Sec-CH-DPR, DPR"


def test_save_data_lowers_an_automatic_quality(enabled):
    plain, saving = (
        enabled.ask("/img/w_400,q_auto,f_auto/autumn.jpg", headers=headers) for headers in ({}, {"Save-Data": "on"})
    )

    assert len(saving.body) < len(plain.body)
    assert plain.headers["Vary"] == saving.headers["Vary"] == "Accept, Save-Data"
    assert "Accept-CH" not in plain.headers


@pytest.mark.parametrize("target", ["/img/w_100/autumn.jpg", "/img/w_100,q_70/autumn.jpg"])
def test_hints_are_ignored_by_urls_without_automatic_sizes(enabled, target):
    hints = {"Sec-CH-Width": "300", "Sec-CH-DPR": "2", "Save-Data": "on"}
    plain, hinted = enabled.ask(target), enabled.ask(target, headers=hints)

    assert hinted.body == plain.body
    assert "Vary" not in plain.headers


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/img/w_auto/nosuch.jpg", {}, 404),
        ("/img/w_auto/autumn.jpg", {"If-None-Match": "*"}, 304),
        ("/img/w_auto/text.jpg", {}, 415),
    ],
)
def test_errors_and_304_of_a_hinted_url_vary_too(enabled, target, headers, status):
    answer = enabled.ask(target, headers=headers)

    assert (answer.status, answer.headers["Vary"]) == (status, "Sec-CH-Width, Width")


def test_a_purge_of_a_url_with_hints_removes_every_variant(enabled):
    variants = [{}, {"Sec-CH-Width": "300"}, {"Save-Data": "on"}, {"Sec-CH-Width": "300", "Accept": "image/webp"}]
    target = "/img/w_auto,q_auto,f_auto/team/cat.png"
    for headers in variants:
        enabled.ask(target, headers=headers)
    answer = enabled.post("/api/admin/purge", {"url": target}, key=KEY)

    assert answer.json()["removed"]["memory"] == len(variants)
    assert all("hit" not in status_of(enabled.ask(target, headers=headers)) for headers in variants)


def test_automatic_sizes_are_refused_without_client_hints(server):
    assert server.ask("/img/w_auto/cat.png").status == 400
    assert server.ask("/img/dpr_auto/cat.png").status == 400
    assert "Vary" not in server.ask("/img/w_50,q_auto/cat.png").headers


def test_options_without_a_preflight_has_allow_and_no_cors_headers(server):
    answer = server.ask("/img/w_50/cat.png", "OPTIONS")

    assert (answer.status, answer.body, answer.headers["Allow"]) == (204, b"", "GET, HEAD, OPTIONS")
    assert [name for name in answer.headers if name.startswith(("Access-Control", "Cross-Origin"))] == []


@pytest.mark.parametrize("half", [{"Origin": "https://a.example"}, {"Access-Control-Request-Method": "GET"}])
def test_an_incomplete_preflight_is_a_plain_options_request(server, half):
    assert "Access-Control-Allow-Methods" not in server.ask("/img/w_50/cat.png", "OPTIONS", half).headers


def test_repeated_requests_for_a_bad_url_are_counted_and_render_once(enabled):
    def repeated() -> float:
        return enabled.metric("imgserver_negative_cache_hits_total")

    for target, status, renders in (("/img/w_51/torn.png", 422, 1), ("/img/w_51/gone.png", 404, 0)):
        before, rendered = repeated(), enabled.image_health()["workers"]["renders"]
        answers = [enabled.ask(target) for _ in range(10)]

        assert {answer.status for answer in answers} == {status}
        assert len({re.sub(rb'"request_id":"[^"]*"', b"", answer.body) for answer in answers}) == 1
        assert enabled.image_health()["workers"]["renders"] - rendered <= renders
        assert repeated() - before >= 7
    assert enabled.metric("imgserver_negative_cache_entries") >= 2


def test_a_repaired_original_is_served_within_two_seconds(enabled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repaired")
    (folder / "a.png").write_bytes((SAMPLES / "cat.png").read_bytes()[:5000])
    with serving(folder, workers_count=1, disk_limit_bytes=0) as server:
        assert {server.ask("/img/w_50/a.png").status for _ in range(5)} == {422}
        shutil.copy(SAMPLES / "cat.png", folder / "a.png")

        wait_until(lambda: server.ask("/img/w_50/a.png").status == 200, "the whole picture", seconds=2)


@pytest.mark.parametrize(
    ("max_age_seconds", "versioned", "expected"),
    [(60, False, 60), (60, True, 60), (None, False, 300), (9999, False, 300)],
)
def test_the_max_age_of_the_source_lowers_that_of_the_response(max_age_seconds, versioned, expected):
    request = ImageRequest(SourceRef("photos", "a.jpg"), Plan())
    rendition = make_rendition(max_age_seconds=max_age_seconds)
    response_headers = ResponseHeaders(HttpSettings(cdn_max_age_seconds=7200))
    headers = response_headers.build(
        request, RenderRequest("key", request.ref, Plan()), rendition, Cacheability(versioned=versioned)
    )

    assert headers["Cache-Control"] == f"max-age={expected}, {GRACES}"
    if max_age_seconds is not None:
        assert headers["CDN-Cache-Control"] == f"max-age={min(7200, max_age_seconds)}, {GRACES}"
    response_headers.limit_stale(headers, rendition, now=0)
    assert headers["Cache-Control"].startswith(f"max-age={min(10, expected)}")


async def test_the_number_of_variants_of_a_url_is_bounded_for_any_client_hints():
    dialect = NativeDialect(NativeSettings(), {"photos"}, "photos", client_hints=True)
    service = SimpleNamespace(
        pipeline_version=PipelineVersion.of(Quality()), get_fresh=lambda order: make_rendition(order.key.encode())
    )
    handler = ImageHandler(dialect, service, HttpSettings(client_hints=True))
    bodies = set()
    for width in WIDTHS:
        for saving in ("on", "off"):
            hints = {"Sec-CH-Width": str(width), "Save-Data": saving}
            response = await handler(make_mocked_request("GET", "/img/w_auto,q_auto/cat.png", headers=hints))
            bodies.add(response.content)

    parsed = handler.request_cache.parse("/img/w_auto,q_auto/cat.png")
    assert len(bodies) == 2 * len(WIDTHS)
    assert len(parsed.variants) <= MAX_VARIANTS


def test_a_url_with_the_version_of_a_replaced_original_has_a_normal_lifetime(tmp_path):
    shutil.copy(SAMPLES / "cat.png", tmp_path / "a.png")
    with serving(tmp_path, workers_count=1, disk_limit_bytes=0) as server:
        old = f"/img/w_50/a.png?v={version_of(server, 'a.png')}"
        before = server.ask(old)
        # In one second, with the pixels and the ETag as they were.
        shutil.copy(SAMPLES / "cat.png", tmp_path / "new.png")
        (tmp_path / "new.png").replace(tmp_path / "a.png")
        wait_until(lambda: "immutable" not in server.ask(old).headers["Cache-Control"], "the version is an old one")
        after = server.ask(f"/img/w_50/a.png?v={version_of(server, 'a.png')}")

    assert before.headers["Cache-Control"] == after.headers["Cache-Control"] == FOR_GOOD
    assert before.headers["ETag"] == after.headers["ETag"]
