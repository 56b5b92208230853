"""A page with srcset, loaded by browsers from a server that has rendered nothing yet. Browsers do not retry a 503."""

import http.client
import queue
import threading
from collections import Counter
from itertools import product

import pytest

from tests.running_server import ServerProcess, serving

pytestmark = pytest.mark.alone

PHOTOS = ("creek.jpg", "dogs.jpg", "mountains.jpg", "sunset.jpg")
WIDTHS = (160, 320, 480, 640, 800, 1080, 1280, 1600)
FORMATS = ("jpg", "webp", "avif")
PAGE = [f"/img/w_{width},f_{kind}/{photo}" for photo, width, kind in product(PHOTOS, WIDTHS, FORMATS)]


def load(server: ServerProcess, targets: list[str], *, connections: int) -> Counter[int]:
    """The statuses of all targets, fetched as a browser does: over persistent connections, in order."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for target in targets:
        waiting.put(target)
    statuses: list[int] = []

    def fetch() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while True:
            try:
                target = waiting.get_nowait()
            except queue.Empty:
                break
            connection.request("GET", target)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()

    threads = [threading.Thread(target=fetch) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(statuses)


@pytest.mark.parametrize("connections", [6, 16])
def test_a_cold_page_loads_without_a_refusal(connections):
    with serving(workers_count=2) as server:
        assert load(server, PAGE, connections=connections) == {200: len(PAGE)}
