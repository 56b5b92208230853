from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from imgserver.errors import Unauthorized
from imgserver.security.api_keys import ApiKeys, ApiKeySettings, digest_of, new_key
from imgserver.web.auth import Authenticator
from imgserver.web.uploads.access import UploadAccess

KEY = new_key("ci")
UPLOAD_KEYS = ApiKeys({"ci": ApiKeySettings("upload", digest_of(KEY))})
PURGE_KEYS = ApiKeys({"ci": ApiKeySettings("purge", digest_of(KEY))})
NO_KEYS = ApiKeys({})


def request_from(address: str, **headers: str):
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (address, 1) if name == "peername" else default
    return make_mocked_request("POST", "/", headers={"Host": "localhost", **headers}, transport=transport)


@pytest.mark.parametrize(
    ("access", "is_local", "keys", "address", "needs_key"),
    [
        ("auto", True, NO_KEYS, "127.0.0.1", False),
        ("auto", True, PURGE_KEYS, "127.0.0.1", False),
        ("auto", True, UPLOAD_KEYS, "127.0.0.1", True),
        ("auto", True, NO_KEYS, "192.0.2.1", True),
        ("auto", False, NO_KEYS, "127.0.0.1", True),
        ("key", True, NO_KEYS, "127.0.0.1", True),
        ("open", False, NO_KEYS, "192.0.2.1", False),
        ("open", False, UPLOAD_KEYS, "192.0.2.1", False),
    ],
)
def test_whether_an_upload_needs_a_key(access, is_local, keys, address, needs_key):
    rule = UploadAccess(access, Authenticator(keys, Mock()), is_local=is_local)

    if needs_key:
        with pytest.raises(Unauthorized):
            rule.authorize(request_from(address))
    else:
        assert rule.authorize(request_from(address)) == ""


@pytest.mark.parametrize("access", ["auto", "key"])
def test_a_valid_key_is_returned_by_its_id(access):
    rule = UploadAccess(access, Authenticator(UPLOAD_KEYS, Mock()), is_local=True)

    assert rule.authorize(request_from("192.0.2.1", Authorization=f"Bearer {KEY}")) == "ci"
