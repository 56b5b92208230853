import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.isolation import holding
from tests.running_server import ServerProcess, serving

# The same examples in every run, so that a change is judged by what it changes. FUZZ_EXAMPLES=10000 looks for others.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=int(os.environ.get("FUZZ_EXAMPLES") or 1), deadline=None)
settings.load_profile("fuzz" if os.environ.get("FUZZ_EXAMPLES") else "fixed")


@pytest.fixture(autouse=True)
def isolation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing else runs beside a test that is marked `alone`."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    # The processes of one run have neighboring folders.
    with holding(tmp_path_factory.getbasetemp().parent, alone=request.node.get_closest_marker("alone") is not None):
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """One server for all tests that leave it as it was: two workers, the sample photographs."""
    with serving(workers_count=2) as running:
        yield running
