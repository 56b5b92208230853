"""nginx and Varnish in front of the server, each with the configuration that docs/caching.md shows."""

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.conftest import FRONTS, KEY
from tests.conformance.nginx import nginx
from tests.running_server import SAMPLES, serving, wait_until

# The Accept header that each browser sends for <img>, and the format that it must get.
BROWSERS = {
    "chrome": ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/avif"),
    "firefox": ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "image/avif"),
    "firefox 100": ("image/avif,image/webp,*/*", "image/avif"),
    "safari": (
        "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,image/svg+xml,"
        "image/*;q=0.8,*/*;q=0.5",
        "image/avif",
    ),
    "safari 14": ("image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", "image/webp"),
    "safari 13": ("image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", "image/jpeg"),
}
REFUSING = {"Accept": "image/avif;q=0, image/webp, */*;q=0.1"}


def test_the_second_request_is_a_cache_hit(front):
    first, second = front.ask("/img/w_60/cat.png"), front.ask("/img/w_60/cat.png")

    assert (front.is_copy(first), front.is_copy(second)) == (False, True)
    assert second.body == first.body


def test_every_browser_gets_a_format_that_it_accepts(front):
    """Twice: a cached variant must not be served to a browser that does not accept it."""
    target = "/img/w_61,f_auto/dogs.jpg"
    asked = [(front.ask(target, headers={"Accept": accept}), media) for accept, media in [*BROWSERS.values()] * 2]

    assert [answer.headers["Content-Type"] for answer, _ in asked] == [media for _, media in asked]
    assert {answer.headers["Vary"] for answer, _ in asked} == {"Accept"}
    assert front.ask(target, headers=REFUSING).headers["Content-Type"] == "image/webp"


@pytest.mark.parametrize(("option", "media"), [("avif", "image/avif"), ("webp", "image/webp"), ("jpg", "image/jpeg")])
def test_an_explicit_format_is_cached_once_for_all_browsers(front, option, media):
    target = f"/img/w_62,f_{option}/dogs.jpg"
    front.ask(target)
    answers = [front.ask(target, headers={"Accept": accept}) for accept, _ in BROWSERS.values()]

    assert {answer.headers["Content-Type"] for answer in answers} == {media}
    assert all(front.is_copy(answer) for answer in answers)
    assert {answer.headers["Vary"] for answer in answers} == {None}


def test_a_304_of_a_negotiated_picture_has_vary(front):
    target, headers = "/img/w_63,f_auto/dogs.jpg", {"Accept": BROWSERS["chrome"][0]}
    etag = front.ask(target, headers=headers).headers["ETag"]
    answer = front.ask(target, headers={**headers, "If-None-Match": etag})

    assert (answer.status, answer.headers["Vary"], answer.headers["ETag"]) == (304, "Accept", etag)


def test_a_stale_copy_is_revalidated_by_a_304_without_a_render(front, origin):
    before = not_modified(origin)
    first = front.ask("/img/w_64/cat.png")
    renders = origin.image_health()["workers"]["renders"]
    wait_until(
        lambda: front.ask("/img/w_64/cat.png").status == 200 and not_modified(origin) > before, "it is revalidated"
    )
    after = front.ask("/img/w_64/cat.png")

    assert front.is_copy(after)
    assert after.body == first.body
    assert origin.image_health()["workers"]["renders"] == renders


def not_modified(server) -> float:
    return server.metric("imgserver_http_requests_total", method="GET", route="image", status="304")


def test_ranges_are_served_from_the_cached_copy(front):
    whole = front.ask("/img/w_65/cat.png").body
    part = front.ask("/img/w_65/cat.png", headers={"Range": "bytes=100-299"})

    assert (part.status, part.headers["Content-Range"]) == (206, f"bytes 100-299/{len(whole)}")
    assert part.body == whole[100:300]
    assert front.is_copy(part)


def test_a_purged_and_changed_picture_is_served_after_max_age(front, origin, photos):
    target = photos / "changing.jpg"
    shutil.copy(SAMPLES / "dogs.jpg", target)
    old = front.ask("/img/w_66/changing.jpg").body
    assert front.ask("/img/w_66/changing.jpg").body == old
    shutil.copy(SAMPLES / "autumn.jpg", photos / "new")
    (photos / "new").replace(target)
    assert origin.post("/api/admin/purge", {"source": "changing.jpg"}, key=KEY).status == 200
    new = origin.ask("/img/w_66/changing.jpg").body

    assert new != old
    wait_until(lambda: front.ask("/img/w_66/changing.jpg").body == new, "the new picture", seconds=5)


@pytest.mark.parametrize("put_in_front", FRONTS)
def test_the_cache_serves_stale_while_the_server_refuses_stalls_or_is_gone(put_in_front, tmp_path):
    """The server has no cache here, so every revalidation needs a worker, and the workers are stopped."""
    settings = {"workers_count": 1, "queue_max_waiting": 2, "queue_deadline_seconds": 60, "http_max_age_seconds": 1}
    without_cache = {"cache_memory_bytes": 0, "disk_limit_bytes": 0}
    read_timeout = {"read_timeout": "1s"} if put_in_front is nginx else {}
    with (
        serving(**settings, **without_cache) as server,
        put_in_front(tmp_path, server, **read_timeout) as front,
        ThreadPoolExecutor(8) as pool,
    ):
        first = front.ask("/img/w_67/cat.png")
        for worker in server.workers():
            worker.suspend()
        waiting = [pool.submit(server.ask, f"/img/w_{number}/cat.png") for number in range(300, 308)]
        wait_until(lambda: shed(server) > 0 and server.ask("/img/w_310/cat.png").status == 503, "it refuses")
        before, seen = shed(server), []
        wait_until(
            lambda: not seen.append(front.ask("/img/w_67/cat.png")) and shed(server) > before,
            "it refuses a revalidation, too",
        )
        seen += [front.ask("/img/w_67/cat.png") for _ in range(5)]
        assert {(answer.status, answer.body) for answer in seen} == {(200, first.body)}
        assert max(answer.seconds for answer in seen) < 0.9

        server.process.send_signal(signal.SIGSTOP)
        stalled = front.ask("/img/w_67/cat.png")
        server.process.send_signal(signal.SIGCONT)
        assert (stalled.status, stalled.body) == (200, first.body)
        assert stalled.seconds < 2.5

        for worker in server.workers():
            worker.resume()
        assert {one.result().status for one in waiting} == {200, 503}
        assert server.stop() == 0
        gone = front.ask("/img/w_67/cat.png")
        assert (gone.status, gone.body) == (200, first.body)
        assert gone.seconds < 0.9


def shed(server) -> float:
    return server.metric("imgserver_lookups_total", outcome="shed")
