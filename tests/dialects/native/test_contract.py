"""The native dialect keeps the contract of dialects."""

import pytest

from imgserver.dialects import DIALECTS, Dialect, DialectConfig
from imgserver.dialects.native import NativeSettings
from imgserver.security.signing import Key, Keyring
from imgserver.testing import DialectContract


class TestNative(DialectContract):
    options = ("", "w_800", "c_fill,w_400,h_300,g_auto/f_webp,q_80", "e_trim/w_100", "f_info", "fl_attachment:cat")
    refused = ("w_0", "w_huge", "c_fill", "xyz_1", "q_101")

    @pytest.fixture
    def dialect(self) -> Dialect:
        return DIALECTS["native"](DialectConfig(NativeSettings(), frozenset({"photos", "shop"}), "photos"))


class TestSigned(TestNative):
    @pytest.fixture
    def dialect(self) -> Dialect:
        config = DialectConfig(
            NativeSettings(), frozenset({"photos"}), "photos", keyring=Keyring((Key(bytes(32)),), required=True)
        )
        return DIALECTS["native"](config)
