"""Pages with srcset, loaded by browsers from a server that has rendered nothing yet. Browsers do not retry a 503."""

import http.client
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest

from tests.polling import wait_until
from tests.running_server import ServerProcess, serving

pytestmark = pytest.mark.alone

PHOTOS = ("creek.jpg", "dogs.jpg", "mountains.jpg", "sunset.jpg")
WIDTHS = (160, 320, 480, 640, 800, 1080, 1280, 1600)
FORMATS = ("jpg", "webp", "avif")
PAGE = [f"/img/w_{width},f_{kind}/{photo}" for photo, width, kind in product(PHOTOS, WIDTHS, FORMATS)]
VISITORS = 8
BURN = "import os\nos.nice(10)\nwhile True: pass"


class Browser:
    """Fetches the targets in order over persistent connections from one address of this machine."""

    def __init__(self, server: ServerProcess, targets: list[str], *, connections: int, address: str) -> None:
        self.answers: list[tuple[int, float]] = []
        """Status and seconds of each."""
        self._server, self._address = server, address
        self._targets: queue.SimpleQueue[str] = queue.SimpleQueue()
        for target in targets:
            self._targets.put(target)
        self._threads = [threading.Thread(target=self._fetch_all) for _ in range(connections)]
        for thread in self._threads:
            thread.start()

    def statuses(self) -> Counter[int]:
        """Of all targets, when the last one is answered."""
        for thread in self._threads:
            thread.join()
        return Counter(status for status, _ in self.answers)

    def _fetch_all(self) -> None:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._server.port, timeout=60, source_address=(self._address, 0)
        )
        while True:
            try:
                target = self._targets.get_nowait()
            except queue.Empty:
                break
            begun = time.monotonic()
            connection.request("GET", target)
            response = connection.getresponse()
            response.read()
            self.answers.append((response.status, time.monotonic() - begun))
        connection.close()


@contextmanager
def busy_cores() -> Iterator[None]:
    """Two neighbors, as nice as the workers, take half of the time of two cores."""
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(2)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@pytest.mark.parametrize("connections", [6, 16])
def test_a_cold_page_loads_without_a_refusal(connections):
    with serving(workers_count=2) as server:
        browser = Browser(server, PAGE, connections=connections, address="127.0.0.1")

        assert browser.statuses() == {200: len(PAGE)}


def test_a_cold_page_loads_without_a_refusal_on_busy_cores():
    with serving(workers_count=2) as server, busy_cores():
        browser = Browser(server, PAGE, connections=16, address="127.0.0.1")

        assert browser.statuses() == {200: len(PAGE)}


def test_eight_visitors_at_once_are_all_served():
    """Each has six connections and its own renditions, so that nothing is shared."""
    with serving(workers_count=2) as server:
        pages = [[target.replace("/img/", f"/img/q_{60 + one},") for target in PAGE[one::8]] for one in range(VISITORS)]
        browsers = [
            Browser(server, page, connections=6, address=f"127.0.0.{2 + one}") for one, page in enumerate(pages)
        ]

        assert sum((browser.statuses() for browser in browsers), Counter()) == {200: len(PAGE)}


def test_a_client_with_sixteen_connections_starves_no_visitor():
    """The visitor asks for one small new picture after the other while the other client floods."""
    flood = [f"/img/w_{1400 + number},f_avif/dogs.jpg" for number in range(60)]
    visit = [f"/img/w_{100 + number},f_jpg/creek.jpg" for number in range(16)]
    with serving(workers_count=2) as server:
        flooding = Browser(server, flood, connections=16, address="127.0.0.2")
        wait_until(lambda: server.image_health()["queue"]["waiting"] > 10, "the flood waits")
        visitor = Browser(server, visit, connections=1, address="127.0.0.3")

        assert visitor.statuses() == {200: len(visit)}
        assert flooding.statuses().keys() <= {200, 503}
    assert max(seconds for _, seconds in visitor.answers) < 5
