"""Images over HTTP, from a real server with real workers and photographs."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import pytest
from PIL import Image

from tests.running_server import SAMPLES, ServerProcess

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI_13 = "image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"


def picture(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


@pytest.mark.parametrize(
    ("target", "media_type", "size"),
    [
        ("/img/cat.png", "image/png", (451, 300)),
        ("/img/w_400/cat.png", "image/png", (400, 266)),
        ("/img/w_800,q_80/dogs.jpg", "image/jpeg", (800, 1202)),
        ("/img/w_400,f_webp/coffee.png", "image/webp", (400, 267)),
        ("/img/w_200,f_avif/coffee.png", "image/avif", (200, 133)),
        ("/img/c_fill,w_300,h_300,g_auto/dogs.jpg", "image/jpeg", (300, 300)),
        ("/img/w_300/a_90/e_grayscale/autumn.jpg", "image/jpeg", (200, 300)),
        ("/img/c_pad,w_300,h_300,b_fff/cat.png", "image/png", (300, 300)),
        ("/img/w_200,r_max,f_png/astronaut.png", "image/png", (200, 200)),
        ("/img/w_100,f_gif/cat.png", "image/gif", (100, 67)),
    ],
)
def test_a_url_gives_the_image_that_it_describes(server: ServerProcess, target, media_type, size):
    answer = server.ask(target)

    assert answer.status == 200
    assert answer.headers["Content-Type"] == media_type
    assert picture(answer.body).size == size


def test_an_image_has_the_headers_for_caches_and_browsers(server):
    answer = server.ask("/img/w_400/coffee.png")

    headers = answer.headers
    assert headers["ETag"] == f'"{hashlib.blake2b(answer.body, digest_size=16).hexdigest()}"'
    assert int(headers["Content-Length"]) == len(answer.body)
    assert parsedate_to_datetime(headers["Last-Modified"]).timestamp() == int((SAMPLES / "coffee.png").stat().st_mtime)
    assert headers["Cache-Control"] == "max-age=300, stale-while-revalidate=86400, stale-if-error=86400"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Server"] == "imgserver"
    assert headers["X-Request-Id"]
    assert "Vary" not in headers


def test_a_second_request_is_a_hit_with_the_same_bytes(server):
    first = server.ask("/img/w_401/coffee.png")
    second = server.ask("/img/w_401/coffee.png")

    assert first.headers["Cache-Status"] == "imgserver; fwd=uri-miss; stored"
    assert second.cache_status == "imgserver; hit"
    assert second.body == first.body


def test_an_equivalent_url_is_a_hit(server):
    server.ask("/img/w_402,q_80,f_jpg/autumn.jpg")

    assert server.ask("/img/f_jpg,q_80,w_402/autumn.jpg").cache_status == "imgserver; hit"
    assert server.ask("/img/w_402/f_jpg/q_80/%61utumn.jpg").cache_status == "imgserver; hit"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (CHROME, "image/avif"),
        ("image/webp,*/*", "image/webp"),
        ("image/avif;q=0,image/webp,*/*", "image/webp"),
        (SAFARI_13, "image/jpeg"),
        ("*/*", "image/jpeg"),
        (None, "image/jpeg"),
    ],
)
def test_f_auto_gives_a_format_that_the_client_accepts_and_varies(server, accept, media_type):
    answer = server.ask("/img/w_300,f_auto/autumn.jpg", headers={"Accept": accept} if accept else {})

    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["Vary"] == "Accept"


def test_errors_and_304_of_a_negotiated_url_vary_too(server):
    missing = server.ask("/img/f_auto/missing.jpg")
    etag = server.ask("/img/w_300,f_auto/autumn.jpg").headers["ETag"]
    unchanged = server.ask("/img/w_300,f_auto/autumn.jpg", headers={"If-None-Match": etag})

    assert (missing.status, missing.headers["Vary"]) == (404, "Accept")
    assert (unchanged.status, unchanged.headers["Vary"]) == (304, "Accept")


def test_a_known_etag_gets_304_without_a_worker(server):
    first = server.ask("/img/w_403/coffee.png")
    renders = server.image_health()["workers"]["renders"]
    answer = server.ask("/img/w_403/coffee.png", headers={"If-None-Match": f'"other", W/{first.headers["ETag"]}'})

    assert (answer.status, answer.body) == (304, b"")
    for name in ("ETag", "Cache-Control", "Last-Modified"):
        assert answer.headers[name] == first.headers[name]
    assert "Content-Type" not in answer.headers
    assert "Content-Length" not in answer.headers
    assert server.image_health()["workers"]["renders"] == renders


def test_head_has_the_headers_of_get_and_renders_once(server):
    renders = server.image_health()["workers"]["renders"]
    head = server.ask("/img/w_404/coffee.png", "HEAD")
    get = server.ask("/img/w_404/coffee.png")

    assert head.body == b""
    for name in ("Content-Type", "Content-Length", "ETag", "Cache-Control"):
        assert head.headers[name] == get.headers[name]
    assert server.image_health()["workers"]["renders"] == renders + 1


def test_an_attachment_has_a_file_name(server):
    assert (
        server.ask("/img/w_100,f_webp,fl_attachment:holiday/cat.png").headers["Content-Disposition"]
        == 'attachment; filename="holiday.webp"'
    )
    assert (
        server.ask("/img/w_100,fl_attachment/cat.png").headers["Content-Disposition"]
        == 'attachment; filename="cat.png"'
    )


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/img/w_80O/cat.png", 400, "bad-option"),
        ("/img/w_0/cat.png", 400, "bad-option"),
        ("/img/w_99999/cat.png", 400, "bad-option"),
        ("/img/wd_800,w_3/cat.png", 400, "bad-option"),
        ("/img/../cat.png", 400, "bad-source-path"),
        ("/img/%2e%2e/cat.png", 400, "bad-source-path"),
        ("/img/..%2fcat.png", 400, "bad-source-path"),
        ("/img/a%00b.png", 400, "bad-source-path"),
        ("/img/a%5cb.png", 400, "bad-source-path"),
        ("/img/%252e%252e/cat.png", 404, "not-found"),
        ("/img/missing.jpg", 404, "not-found"),
        ("/img/ATTRIBUTION.md", 415, "unsupported-image"),
        ("/img/l_logo/cat.png", 501, "not-in-this-build"),
        ("/img/t_card/cat.png", 400, "bad-option"),
        ("/img/l_cat.png,w_9/cat.png", 501, "not-in-this-build"),
        ("/img/https://example.com/cat.png", 403, "source-denied"),
        ("/img/s--abcdefghijklmnopqrstuv--/cat.png", 403, "signature-refused"),
        ("/img/" + "a" * 8100 + ".png", 414, "target-too-long"),
        ("/nothing", 404, "http"),
        ("/", 200, None),
    ],
)
def test_bad_input_gets_a_problem_with_its_code(server, target, status, code):
    answer = server.ask(target)

    assert answer.status == status
    if code is not None:
        problem = answer.json()
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["X-Imgserver-Error"] == code
        assert (problem["status"], problem["request_id"]) == (status, answer.headers["X-Request-Id"])
        assert str(SAMPLES.parent) not in answer.body.decode()


def test_the_problem_of_a_bad_option_has_its_range_and_the_nearest_key(server):
    problem = server.ask("/img/w_80O/cat.png").json()

    assert (problem["argument"], problem["value"]) == ("w", "80O")
    assert "8192" in problem["allowed"]
    assert server.ask("/img/wd_800,w_3/cat.png").json()["nearest"] == "w"


def test_a_misspelled_option_that_reads_as_a_folder_is_suggested(server):
    assert "w_800" in server.ask("/img/width_800/cat.png").json()["detail"]


def test_other_methods_are_refused_with_allow(server):
    answer = server.ask("/img/cat.png", "DELETE")

    assert answer.status == 405
    assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "OPTIONS"}


def test_browsers_may_cache_a_preflight_for_a_day(server):
    preflight = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}
    answer = server.ask("/img/w_50/cat.png", "OPTIONS", headers=preflight)

    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Max-Age"] == "86400"


def test_the_ranges_of_an_image_make_up_the_whole(server):
    whole = server.ask("/img/w_300/coffee.png")
    length = len(whole.body)
    parts = [
        server.ask("/img/w_300/coffee.png", headers={"Range": f"bytes={at}-{at + 29_999}"})
        for at in range(0, length, 30_000)
    ]

    assert whole.headers["Accept-Ranges"] == "bytes"
    assert {part.status for part in parts} == {206}
    assert parts[0].headers["Content-Range"] == f"bytes 0-29999/{length}"
    assert b"".join(part.body for part in parts) == whole.body
    assert {part.headers["ETag"] for part in parts} == {whole.headers["ETag"]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Range": "bytes=0-1,4-5"}, 200),
        ({"Range": "bytes=0-1", "If-Range": '"another"'}, 200),
        ({"Range": "lines=1-2"}, 200),
        ({"Range": "bytes=99999999-"}, 416),
        ({"Range": "bytes=0-1", "If-None-Match": "*"}, 304),
    ],
)
def test_an_unsatisfiable_or_unsupported_range_follows_the_rfc(server, headers, status):
    length = len(server.ask("/img/w_300/coffee.png").body)
    answer = server.ask("/img/w_300/coffee.png", headers=headers)

    assert answer.status == status
    if status == 416:
        assert answer.headers["Content-Range"] == f"bytes */{length}"


def test_a_safe_request_id_is_used_and_an_unsafe_one_is_replaced(server):
    assert server.ask("/img/w_50/cat.png", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    assert server.ask("/img/w_50/cat.png", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"] != "a b"


def test_concurrent_requests_for_one_cold_url_share_a_render(server):
    renders = server.image_health()["workers"]["renders"]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(server.ask, ["/img/w_777,f_webp/sunset.jpg"] * 200))

    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert server.image_health()["workers"]["renders"] == renders + 1


def test_f_info_answers_with_json(server):
    facts = server.ask("/img/w_800,f_info/dogs.jpg")

    assert facts.headers["Content-Type"] == "application/json"
    assert facts.json()["original"]["width"] == 2056
