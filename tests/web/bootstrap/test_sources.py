"""Remote originals end to end: a real server process in front of a scripted web server on loopback."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from PIL import Image

from tests.redis_server import running
from tests.running_server import Answer, ServerProcess, serving, wait_until
from tests.sources.origin_server import OriginServer, body, cut, endless, head, redirect, reset, stalled, status
from tests.threaded_origin import downloads, held, photo, revalidated, threaded_origin, trickled

KEY = "a key of sixteen characters"
LOOPBACK = "127.0.0.0/8"
CALM = {"Cache-Control": "max-age=600"}
# Every use of a copy sends a request to the origin, and failures come soon.
HASTY = {
    "origin_cache_min_ttl_seconds": 0,
    "origin_cache_stale_while_revalidate_seconds": 0,
    "origin_cache_retry_delay_seconds": 0,
    "origin_cache_negative_ttl_seconds": 0,
    "fetch_max_attempts": 1,
    "fetch_idle_timeout_seconds": 1,
}


@pytest.fixture(scope="module")
def origin() -> Iterator[OriginServer]:
    with threaded_origin() as one:
        yield one


@pytest.fixture(scope="module")
def shop(origin) -> Iterator[ServerProcess]:
    """A server of the sample images, with the origin as the source `shop`."""
    settings = {"workers_count": 1, "disk_limit_bytes": 0, "admin_key": KEY, "tags_summer": "red/"}
    with serving(**settings, **HASTY, **of_shop(origin)) as one:
        yield one


def of_shop(origin: OriginServer) -> dict[str, object]:
    return {
        "sources_shop_url": f"http://127.0.0.1:{origin.port}/",
        "sources_shop_allowed_networks": LOOPBACK,
        "sources_shop_headers": "Authorization: Bearer the-secret-of-the-shop",
    }


def at_once(server: ServerProcess, targets: list[str]) -> list[Answer]:
    with ThreadPoolExecutor(len(targets)) as pool:
        return list(pool.map(server.ask, targets))


def color(answer: Answer) -> tuple[int, ...]:
    """The color in the middle, rounded so that JPEG does not change it."""
    picture = Image.open(BytesIO(answer.body)).convert("RGB")
    return tuple(round(value / 85) for value in picture.getpixel((picture.width // 2, picture.height // 2)))


def refusal(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["X-Imgserver-Error"], answer.headers["Cache-Control"]


def counted(server: ServerProcess, event: str, reason: str) -> float:
    return server.metric("imgserver_security_events_total", event=event, reason=reason)


def test_twelve_sizes_of_a_cold_original_are_one_download_and_hold_no_worker(shop, origin):
    answer, release = held(body(photo(), **CALM))
    origin.answers["/cold.jpg"] = answer
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(shop.ask, f"/img/w_{10 + size}/shop/cold.jpg") for size in range(12)]
        wait_until(
            lambda: shop.metric("imgserver_origin_cache_waiting", source="shop") == 12, "all wait for the origin"
        )
        busy = (
            shop.metric("imgserver_workers", state="busy"),
            shop.metric("imgserver_queue_jobs", queue="render", state="ready"),
        )
        release()
        answers = [one.result() for one in asked]

    assert busy == (0, 0)
    assert {one.status for one in answers} == {200}
    assert len({one.headers["ETag"] for one in answers}) == 12
    assert downloads(origin, "/cold.jpg") == 1


def test_a_secret_header_is_sent_to_its_origin_and_not_logged(shop, origin):
    origin.answers["/private.jpg"] = body(photo(), **CALM)

    assert shop.ask("/img/w_10/shop/private.jpg").status == 200

    assert origin.requests[-1].fields["authorization"] == "Bearer the-secret-of-the-shop"


@pytest.mark.alone
def test_an_origin_of_one_byte_per_second_delays_no_other_request(origin):
    """Neither hits nor misses of local images; further requests for the origin are refused immediately. Two such
    sources together could fill the queue for workers."""
    origin.answers |= {f"/{number}/slow.jpg": trickled(photo()) for number in range(100)}
    slow = [f"/img/w_10/{('shop', 'other')[number % 2]}/{number}/slow.jpg" for number in range(100)]
    other = {name.replace("shop", "other"): value for name, value in of_shop(origin).items()}
    patience = {"fetch_total_timeout_seconds": 6, "origin_cache_max_waiting": 25, "queue_max_waiting": 40}
    with serving(workers_count=1, disk_limit_bytes=0, **patience, **of_shop(origin), **other) as server:
        server.ask("/img/w_11/cat.png")
        alone = slowest_of_hits_and_misses(server, "q_70")
        with ThreadPoolExecutor(100) as pool:
            asked = [pool.submit(server.ask, target) for target in slow]
            wait_until(
                lambda: server.metric("imgserver_origin_cache_waiting", source="shop") == 25, "the place is full"
            )
            wait_until(lambda: sum(one.done() for one in asked) == 50, "the others were refused", seconds=3)
            beside = slowest_of_hits_and_misses(server, "q_71")
            assert server.metric("imgserver_origin_cache_waiting", source="shop") == 25
            answers = [one.result() for one in asked]

    refused = [one for one in answers if one.status == 503]
    assert {one.status for one in answers} == {503, 504}
    assert len(refused) == 50
    assert all(int(one.headers["Retry-After"]) >= 1 for one in refused)
    # A request that waited for a slow original would take seconds.
    assert all(during < 5 * before + 0.3 for before, during in zip(alone, beside, strict=True)), (alone, beside)


def slowest_of_hits_and_misses(server: ServerProcess, quality: str) -> tuple[float, float]:
    hits = [server.ask("/img/w_11/cat.png") for _ in range(50)]
    misses = [server.ask(f"/img/w_{width},{quality}/cat.png") for width in range(20, 30)]
    assert {one.status for one in (*hits, *misses)} == {200}
    return max(one.seconds for one in hits), max(one.seconds for one in misses)


def test_originals_survive_a_restart(origin, tmp_path):
    origin.answers["/kept.jpg"] = body(photo(), **CALM)
    for width in (10, 11):
        with serving(disk_limit_bytes=0, origin_cache_path=tmp_path, workers_count=1, **of_shop(origin)) as server:
            assert server.ask(f"/img/w_{width}/shop/kept.jpg").status == 200

    assert downloads(origin, "/kept.jpg") == 1


def test_a_stale_original_is_revalidated(shop, origin):
    origin.answers["/same.jpg"] = revalidated(photo(), '"one"', Cache_Control="max-age=0")
    before = shop.metric("imgserver_origin_cache_requests_total", source="shop", result="revalidations")
    fetched = shop.metric("imgserver_origin_cache_requests_total", source="shop", result="fetches")

    answers = [shop.ask(f"/img/w_{width}/shop/same.jpg") for width in (10, 11, 12)]

    assert {one.status for one in answers} == {200}
    assert shop.metric("imgserver_origin_cache_requests_total", source="shop", result="revalidations") >= before + 2
    assert shop.metric("imgserver_origin_cache_requests_total", source="shop", result="fetches") == fetched + 1


def test_no_old_rendition_of_a_changed_original_follows_a_new_one(shop, origin):
    origin.answers["/news.jpg"] = revalidated(photo("red"), '"red"', Cache_Control="max-age=0")
    old = shop.ask("/img/w_10/shop/news.jpg")
    origin.answers["/news.jpg"] = revalidated(photo("blue"), '"blue"', Cache_Control="max-age=0")

    wait_until(lambda: shop.ask("/img/w_10/shop/news.jpg").headers["ETag"] != old.headers["ETag"], "it is news")
    answers = at_once(shop, [f"/img/w_{width}/shop/news.jpg" for width in (10, 11, 12, 13) * 5])

    assert {color(one) for one in answers} == {(0, 0, 3)}
    assert old.headers["ETag"] not in {one.headers["ETag"] for one in answers}


@pytest.mark.parametrize(
    ("fault", "refused"),
    [(reset(), (502, "source-failed")), (stalled(), (504, "deadline-exceeded")), (status(500), (502, "source-failed"))],
    ids=["reset", "stalled", "500"],
)
def test_cached_originals_are_served_while_the_origin_is_down(shop, origin, fault, refused, request):
    name = request.node.callspec.id
    origin.answers[f"/{name}/kept.jpg"] = body(photo(), **{**CALM, "Cache-Control": "max-age=0", "ETag": '"k"'})
    kept = shop.ask(f"/img/w_10/shop/{name}/kept.jpg")
    origin.answers |= {f"/{name}/kept.jpg": fault, f"/{name}/new.jpg": fault}

    again, other_size, new = at_once(
        shop, [f"/img/w_10/shop/{name}/kept.jpg", f"/img/w_11/shop/{name}/kept.jpg", f"/img/w_10/shop/{name}/new.jpg"]
    )

    assert (again.status, again.headers["ETag"]) == (200, kept.headers["ETag"])
    assert other_size.status == 200
    assert refusal(new) == (*refused, "no-store")


PHOTO = photo()
FAULTS = {
    "absent": (status(404), (404, "not-found", "max-age=30")),
    "gone": (status(410), (404, "not-found", "max-age=30")),
    "forbidden": (status(403), (404, "not-found", "max-age=30")),
    "html": (body(b"<html>" * 300, Content_Type="image/jpeg"), (415, "unsupported-image", "no-store")),
    "empty": (body(b""), (415, "unsupported-image", "no-store")),
    "endless": (endless(), (422, "image-over-limit", "max-age=600")),
    "too-large": (body(b"", Content_Length=1 << 40), (422, "image-over-limit", "max-age=600")),
    "half": (body(PHOTO[: len(PHOTO) // 2]), (422, "broken-image", "no-store")),
    "half-without-length": (cut(PHOTO[: len(PHOTO) // 2]), (503, "unavailable", "no-store")),
    "short": (cut(PHOTO[:500], Content_Length=len(PHOTO)), (502, "source-failed", "no-store")),
    "reset": (
        reset(head(200, Content_Length=len(PHOTO)) + PHOTO[:500]),
        (502, "source-failed", "no-store"),
    ),
    "gzipped": (body(PHOTO, Content_Encoding="br"), (502, "source-failed", "no-store")),
    "garbage": (cut(b"", Transfer_Encoding="chunked"), (502, "source-failed", "no-store")),
    "partial": (body(PHOTO, 206), (502, "source-failed", "no-store")),
    "stalled": (stalled(head(200, Content_Length=len(PHOTO)) + PHOTO[:500]), (504, "deadline-exceeded", "no-store")),
    "nowhere": (redirect("http://[::1"), (403, "source-denied", "no-store")),
    "loop": (redirect("/loop.jpg"), (502, "source-failed", "no-store")),
    "elsewhere": (redirect("http://169.254.169.254/latest/meta-data"), (403, "source-denied", "no-store")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_an_origin_has_its_status_and_code(shop, origin, name):
    fault, expected = FAULTS[name]
    origin.answers[f"/{name}.jpg"] = fault

    answer = shop.ask(f"/img/w_10/shop/{name}.jpg")

    assert refusal(answer) == expected
    assert str(origin.port) not in answer.body.decode()
    assert b"127.0.0.1" not in answer.body


def test_a_failure_is_not_cached(shop, origin):
    origin.answers["/back.jpg"] = cut(PHOTO[:500], Content_Length=len(PHOTO))
    failed = shop.ask("/img/w_10/shop/back.jpg").status
    origin.answers["/back.jpg"] = body(PHOTO)

    assert (failed, shop.ask("/img/w_10/shop/back.jpg").status) == (502, 200)


def test_an_origin_that_is_whole_a_second_later_is_served_then(shop, origin):
    """Also with the validators of the broken response, and with a long lifetime."""
    lasting = {"ETag": '"one"', "Cache-Control": "max-age=86400"}
    broken = {
        "page": body(b"<html>" * 300, **lasting),
        "empty": body(b"", **lasting),
        "half": body(PHOTO[: len(PHOTO) // 2], **lasting),
        "half-without-length": cut(PHOTO[: len(PHOTO) // 2], **lasting),
        "cut": cut(PHOTO[:500], Content_Length=len(PHOTO), **lasting),
        "unchunked": cut(b"5\r\nabcde\r\n", Transfer_Encoding="chunked", **lasting),
    }
    targets = [f"/img/w_10/shop/first-{name}.jpg" for name in broken]
    origin.answers |= {f"/first-{name}.jpg": answer for name, answer in broken.items()}
    first = at_once(shop, targets)
    origin.answers |= {f"/first-{name}.jpg": body(PHOTO, **lasting) for name in broken}

    assert [answer.headers["Cache-Control"] for answer in first] == ["no-store"] * len(broken)
    assert [answer.status for answer in first] == [415, 415, 422, 503, 502, 502]
    wait_until(lambda: {answer.status for answer in at_once(shop, targets)} == {200}, "all are served", seconds=4)


def test_a_denied_redirect_is_audited(shop, origin):
    origin.answers["/inside.jpg"] = redirect("http://169.254.169.254/latest/meta-data")
    before = counted(shop, "redirect_denied", "not_listed")

    assert shop.ask("/img/w_10/shop/inside.jpg").status == 403

    assert counted(shop, "redirect_denied", "not_listed") == before + 1
    wait_until(lambda: "security.redirect_denied" in shop.log.read_text(), "it is in the log")


def test_an_original_over_item_bytes_is_audited(shop, origin):
    origin.answers["/huge.jpg"] = body(b"", Content_Length=1 << 40)
    before = counted(shop, "limit_exceeded", "bytes")

    shop.ask("/img/w_10/shop/huge.jpg")

    assert counted(shop, "limit_exceeded", "bytes") == before + 1


def test_max_age_of_the_origin_bounds_that_of_renditions(shop, origin):
    origin.answers["/brief.jpg"] = body(PHOTO, Cache_Control="max-age=70", Age=50)

    told = shop.ask("/img/w_10/shop/brief.jpg").headers["Cache-Control"]

    assert told.split(",")[0] == "max-age=20"


def test_the_cache_policy_of_an_origin_reaches_the_client(shop, origin):
    fields = {
        "private": ("private, max-age=60", "private, max-age=60"),
        "nostore": ("no-store", "no-store"),
        "nocache": ("no-cache", "no-cache"),
        "strict": ("max-age=60, must-revalidate", "max-age=60, must-revalidate"),
        "zero": ("max-age=0", "max-age=0"),
    }
    for name, (sent, _) in fields.items():
        origin.answers[f"/policy-{name}.jpg"] = body(PHOTO, Cache_Control=sent, ETag='"one"')
    origin.answers["/policy-expired.jpg"] = body(PHOTO, Expires="Mon, 02 Jan 2023 00:00:00 GMT", ETag='"one"')
    names = [*fields, "expired"]
    first, second = ([shop.ask(f"/img/w_10/shop/policy-{name}.jpg") for name in names] for _ in range(2))

    expected = [received for _, received in fields.values()] + ["max-age=0"]
    assert [answer.headers["Cache-Control"] for answer in first] == expected
    assert [answer.headers["Cache-Control"] for answer in second] == expected
    assert [answer.cache_status.partition("fwd=")[2] for answer in first] == ["uri-miss"] * 2 + ["uri-miss; stored"] * 4
    assert [("hit" in answer.cache_status) for answer in second] == [False, False, True, True, True, True]
    assert {answer.status for answer in first + second} == {200}


SELECTORS = {
    "url": {"url": "/img/w_10/shop/red/url.jpg"},
    "source": {"source": "shop/red/source.jpg"},
    "prefix": {"prefix": "shop/red"},
    "tag": {"tag": "summer"},
    "all": {"all": True},
}


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_purged_original_is_downloaded_again(shop, origin, selector):
    path = f"/red/{selector}.jpg"
    origin.answers |= {path: body(photo("red"), **CALM), "/green.jpg": body(photo("green"), **CALM)}
    for name in (path, "/green.jpg"):
        assert shop.ask(f"/img/w_10/shop{name}").status == 200
    had = downloads(origin, path), downloads(origin, "/green.jpg")
    origin.answers[path] = body(photo("blue"), **CALM)

    purged = shop.post("/api/admin/purge", SELECTORS[selector], key=KEY).status
    answers = [shop.ask(f"/img/w_{width}/shop{path}") for width in (10, 11)]
    shop.ask("/img/w_12/shop/green.jpg")

    assert purged == 200
    assert {color(one) for one in answers} == {(0, 0, 3)}
    assert downloads(origin, path) == had[0] + 1
    assert downloads(origin, "/green.jpg") == had[1] + (selector == "all")


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_purge_reaches_the_origin_caches_of_other_servers(origin, tmp_path, selector):
    path = f"/red/{selector}.jpg"
    origin.answers[path] = body(photo("red"), **CALM)
    common = {"workers_count": 1, "admin_key": KEY, "tags_summer": "red/", **of_shop(origin)}
    with (
        running(tmp_path) as redis,
        serving(redis_url=redis.url, **common) as one,
        serving(redis_url=redis.url, **common) as other,
    ):
        for server in (one, other):
            wait_until(lambda server=server: server.metric("imgserver_redis_up") == 1, "it is connected")
            wait_until(lambda server=server: server.image_health()["cache"]["subscribed"], "it listens")
        old = [server.ask(f"/img/w_10/shop{path}") for server in (one, other, other)]
        old.append(other.ask(f"/img/w_11/shop{path}"))
        origin.answers[path] = body(photo("blue"), **CALM)

        assert one.post("/api/admin/purge", SELECTORS[selector], key=KEY).status == 200
        wait_until(lambda: color(other.ask(f"/img/w_10/shop{path}")) == (0, 0, 3), "the other has heard of it")
        new = [server.ask(f"/img/w_{width}/shop{path}") for server in (other, one) for width in (12, 10, 13)]

    assert {color(answer) for answer in old} == {(3, 0, 0)}
    assert {color(answer) for answer in new} == {(0, 0, 3)}
