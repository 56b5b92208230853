from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from imgserver.web.local_client import is_local_client


@pytest.mark.parametrize(
    ("address", "headers", "is_local"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("192.0.2.1", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, False),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.1"}, False),
        ("127.0.0.1", {"Via": "1.1 proxy"}, False),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}, False),
        ("127.0.0.1", {"Sec-Fetch-Site": "same-origin"}, True),
        ("127.0.0.1", {"X-Real-IP": "192.0.2.1"}, False),
        ("127.0.0.1", {"Host": "localhost:8080"}, True),
        ("127.0.0.1", {"Host": "127.0.0.1"}, True),
        ("127.0.0.1", {"Host": "[::1]:8080"}, True),
        ("127.0.0.1", {"Host": "imgserver:8080"}, True),
        ("127.0.0.1", {"Host": "pictures.localhost"}, True),
        ("127.0.0.1", {"Host": "evil.example:8080"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1.evil.example"}, False),
        ("127.0.0.1", {"Host": "localhost.evil.example"}, False),
        ("127.0.0.1", {"Host": "localhost."}, False),
    ],
)
def test_only_a_direct_request_from_this_machine_is_local(address, headers, is_local):
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (address, 1) if name == "peername" else default
    request = make_mocked_request("POST", "/", headers=headers, transport=transport)

    assert is_local_client(request) is is_local
