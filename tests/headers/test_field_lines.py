import pytest
from multidict import CIMultiDict

from imgserver.headers.field_lines import combined


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        ([("Accept", "image/webp")], "image/webp"),
        ([("Accept", "")], ""),
        ([("Accept", "a"), ("accept", "b"), ("Other", "c"), ("ACCEPT", "d")], "a, b, d"),
    ],
)
def test_the_lines_of_a_field_are_one_list_in_their_order(lines, expected):
    assert combined(CIMultiDict(lines), "Accept") == expected
