"""The native dialect keeps the contract of dialects."""

import dataclasses

from imgserver.dialects import DIALECTS, Dialect, DialectConfig
from imgserver.testing import DialectContract


class TestNative(DialectContract):
    options = ("", "w_800", "c_fill,w_400,h_300,g_auto/f_webp,q_80", "e_trim/w_100", "f_info", "fl_attachment:cat")
    refused = ("w_0", "w_huge", "c_fill", "xyz_1", "q_101")

    def make(self, config: DialectConfig) -> Dialect:
        return DIALECTS["native"](config)


class TestWithClientHints(TestNative):
    options = (*TestNative.options, "w_auto", "dpr_auto")

    def make(self, config: DialectConfig) -> Dialect:
        return super().make(dataclasses.replace(config, client_hints=True))
