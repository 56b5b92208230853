import shutil
from collections.abc import Iterator

import pytest

from tests.conformance.nginx import Nginx, needs_nginx, nginx
from tests.conformance.varnish import Varnish, needs_varnish, varnish
from tests.running_server import SAMPLES, ServerProcess, serving

KEY = "a key of sixteen characters"
# Each starts a cache in front of a server.
FRONTS = [pytest.param(nginx, marks=needs_nginx, id="nginx"), pytest.param(varnish, marks=needs_varnish, id="varnish")]


@pytest.fixture(scope="package")
def photos(tmp_path_factory):
    """A folder of originals. Tests may change them."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("cat.png", "dogs.jpg", "dandelion.jpg"):
        shutil.copy(SAMPLES / name, folder)
    return folder


@pytest.fixture(scope="package")
def origin(photos) -> Iterator[ServerProcess]:
    """A server whose pictures are fresh in caches for one second."""
    with serving(photos, workers_count=1, http_max_age_seconds=1, admin_key=KEY) as running:
        yield running


@pytest.fixture(scope="package", params=FRONTS)
def front(request, origin, tmp_path_factory) -> Iterator[Nginx | Varnish]:
    """A cache in front of `origin`."""
    with request.param(tmp_path_factory.mktemp("front"), origin) as running:
        yield running
