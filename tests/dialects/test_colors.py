"""Colors as names and as hex digits."""

import pytest
from PIL import ImageColor

from imgserver.dialects.colors import COLORS, read_color
from imgserver.plan.plan import TRANSPARENT, Color


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("fff", Color(255, 255, 255)),
        ("1a2f", Color(0x11, 0xAA, 0x22, 0xFF)),
        ("0102FF", Color(1, 2, 255)),
        ("01020304", Color(1, 2, 3, 4)),
        ("rebeccapurple", Color(0x66, 0x33, 0x99)),
        ("transparent", TRANSPARENT),
    ],
)
def test_a_color_is_read(text: str, color: Color) -> None:
    assert read_color(text) == color


@pytest.mark.parametrize(
    "text", ["", "f", "ff", "fffff", "fffffff", "fffffffff", "#fff", "ggg", "White", "\u0661\u0661\u0661"]
)
def test_text_that_is_not_a_color_gives_none(text: str) -> None:
    assert read_color(text) is None


def test_the_names_are_those_of_css() -> None:
    theirs = {name: ImageColor.getrgb(name) for name in ImageColor.colormap}

    assert {name: (c.red, c.green, c.blue) for name, c in COLORS.items() if name != "transparent"} == theirs
