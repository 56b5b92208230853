"""Faults of the origin cache that do not affect local images: a full disk, and many slow downloads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.faults.test_disk_full import fill
from tests.running_server import SAMPLES, serving, wait_until
from tests.sources.origin_server import OriginServer, body
from tests.threaded_origin import photo, threaded_origin, trickled


@pytest.fixture
def origin() -> Iterator[OriginServer]:
    with threaded_origin() as one:
        one.answers |= {f"/{number}.jpg": body(photo(), Cache_Control="max-age=600") for number in range(20)}
        yield one


def settings(origin: OriginServer) -> dict[str, object]:
    far = {"sources_shop_url": f"http://127.0.0.1:{origin.port}/", "sources_shop_allowed_networks": "127.0.0.0/8"}
    return {"workers_count": 1, "disk_limit_bytes": 0, **far}


def test_a_full_disk_of_the_origin_cache_refuses_only_new_remote_originals(origin, disk):
    """A small original evicts another one; one that is larger than the disk is refused."""
    origin.answers["/large.png"] = body((SAMPLES / "cat.png").read_bytes())
    with serving(**settings(origin), origin_cache_path=disk / "originals") as server:
        first = server.ask("/img/w_20/shop/0.jpg").status
        filler = fill(disk)
        small = [server.ask(f"/img/w_20/shop/{number}.jpg").status for number in (1, 2)]
        large = server.ask("/img/w_20/shop/large.png")
        local = [server.ask(f"/img/w_{width}/cat.png").status for width in range(20, 25)]
        kept = server.ask("/img/w_20/shop/0.jpg").status
        filler.unlink()

        assert [first, *small, *local, kept] == [200] * 9
        assert (large.status, large.json()["reason"], large.headers["Cache-Control"]) == (503, "disk", "no-store")
        wait_until(lambda: server.ask("/img/w_20/shop/large.png").status == 200, "there is room again")
        wait_until(lambda: "origin_cache.disk_failed" in server.log.read_text(), "it is in the log")


def test_slow_origins_take_a_bounded_number_of_descriptors_and_release_them(origin):
    origin.answers |= {f"/slow/{number}.jpg": trickled(photo()) for number in range(60)}
    times = {"fetch_total_timeout_seconds": 2, "origin_cache_max_concurrent": 20}
    with serving(**settings(origin), **times) as server:
        server.ask("/img/w_20/shop/0.jpg")
        process = psutil.Process(server.process.pid)
        wait_until(lambda: len(server.workers()) == 2, "all workers are up")
        before = process.num_fds()
        with ThreadPoolExecutor(60) as pool:
            asked = [pool.submit(server.ask, f"/img/w_20/shop/slow/{number}.jpg") for number in range(60)]
            wait_until(lambda: server.metric("imgserver_origin_cache_waiting", source="shop") == 60, "all wait")
            most = process.num_fds()
            answers = [one.result() for one in asked]

        assert {one.status for one in answers} == {504}
        # Each of the 60 clients has a connection; each of the 20 downloads has a socket and a file.
        assert most <= before + 60 + 2 * 20 + 5
        wait_until(lambda: process.num_fds() <= before + 1, "all are given back")
