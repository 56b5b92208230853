"""Building URLs, for the command line, the gallery and the links of stored uploads."""

import pytest

from imgserver.dialects.native import NativeDialect, needs_escape, quote_source
from imgserver.errors import BadOption, BadSourcePath
from imgserver.plan.plan import SourceRef


@pytest.mark.parametrize(
    ("source", "path", "options", "target"),
    [
        ("photos", "photo.jpg", "", "/img/photo.jpg"),
        ("photos", "photo.jpg", "w_800,q_80", "/img/w_800,q_80/photo.jpg"),
        ("photos", "my folder/ä,#?.jpg", "w_8/e_blur:4/", "/img/w_8/e_blur:4/my%20folder/%C3%A4%2C%23%3F.jpg"),
        ("photos", "w_archive/day_1.jpg", "w_800", "/img/w_800/_/w_archive/day_1.jpg"),
        ("photos", "w_1.jpg", "w_800", "/img/w_800/w_1.jpg"),
        ("photos", "_/a.jpg", "", "/img/_/_/a.jpg"),
        ("photos", "red@2x.jpg", "", "/img/red@2x.jpg"),
        ("shop", "mugs/red.jpg", "w_8", "/img/w_8/shop/mugs/red.jpg"),
        ("photos", "shop/a.jpg", "", "/img/photos/shop/a.jpg"),
        ("photos", "photos/a.jpg", "", "/img/photos/photos/a.jpg"),
        ("photos", "b64/a.jpg", "w_8", "/img/w_8/photos/b64/a.jpg"),
        ("photos", "100%.jpg", "", "/img/100%25.jpg"),
    ],
)
def test_a_target_is_built_from_source_and_options(
    dialect: NativeDialect, source: str, path: str, options: str, target: str
) -> None:
    assert dialect.build(SourceRef(source, path), options) == target


def test_options_are_checked(dialect: NativeDialect) -> None:
    with pytest.raises(BadOption, match='"80O"'):
        dialect.build(SourceRef("photos", "a.jpg"), "w_80O")


@pytest.mark.parametrize("options", ["holiday", "w_8/holiday", "w_8/_", "_"])
def test_text_that_is_not_options_is_refused(dialect: NativeDialect, options: str) -> None:
    with pytest.raises(BadOption, match="does not end where the source begins"):
        dialect.build(SourceRef("photos", "w_1/a.jpg"), options)


def test_a_name_that_no_url_can_contain_is_refused(dialect: NativeDialect) -> None:
    with pytest.raises(BadSourcePath):
        quote_source("caf\udce9.jpg")
    with pytest.raises(BadSourcePath):
        dialect.build(SourceRef("photos", "a\nb.jpg"))


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("w_archive", True), ("fl_studio", True), ("j_smith", True), ("_", True), ("s--x--", True), ("a,w_1", True),
     ("my_photos", False), ("2026_holiday", False), ("W_800", False), ("w-800", False)],
)  # fmt: skip
def test_only_option_shaped_folders_need_an_escape(folder: str, expected: bool) -> None:
    assert needs_escape(folder) is expected
