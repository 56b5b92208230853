"""Colours by name and by digits."""

import pytest
from PIL import ImageColor

from imgserver.dialects.colors import COLOURS, read_colour
from imgserver.plan.plan import TRANSPARENT, Colour


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("fff", Colour(255, 255, 255)),
        ("1a2f", Colour(0x11, 0xAA, 0x22, 0xFF)),
        ("0102FF", Colour(1, 2, 255)),
        ("01020304", Colour(1, 2, 3, 4)),
        ("rebeccapurple", Colour(0x66, 0x33, 0x99)),
        ("transparent", TRANSPARENT),
    ],
)
def test_a_colour_is_read(text: str, colour: Colour) -> None:
    assert read_colour(text) == colour


@pytest.mark.parametrize(
    "text", ["", "f", "ff", "fffff", "fffffff", "fffffffff", "#fff", "ggg", "White", "\u0661\u0661\u0661"]
)
def test_what_is_no_colour_is_none(text: str) -> None:
    assert read_colour(text) is None


def test_the_names_are_those_of_css() -> None:
    theirs = {name: ImageColor.getrgb(name) for name in ImageColor.colormap}

    assert {name: (c.red, c.green, c.blue) for name, c in COLOURS.items() if name != "transparent"} == theirs
