from collections.abc import Iterator

import pytest

from tests.serving import ServerProcess, serving


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """One server for all tests that leave it as it was: two workers, the sample photographs."""
    with serving(workers_count=2) as running:
        yield running
