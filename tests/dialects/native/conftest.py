import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings


@pytest.fixture(scope="session")
def dialect() -> NativeDialect:
    return NativeDialect(NativeSettings(), {"photos", "shop"}, "photos")
