"""Settings in words: sizes, values, and what a setting allows."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, doc

from imgserver.settings.describe import format_size, format_value, parse_size, takes


@pytest.mark.parametrize(
    ("text", "count"),
    [("4096", 4096), ("64MiB", 64 << 20), ("1.5 GB", 1_500_000_000), ("512k", 512_000), ("2GiB", 2 << 30), ("7b", 7)],
)
def test_sizes_are_numbers_or_have_a_unit(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("count", [0, 1, 1000, 1024, 64 << 20, 3 << 30, (64 << 20) + 1])
def test_a_formatted_size_parses_back(count: int) -> None:
    assert parse_size(format_size(count)) == count


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("limits.svg", True, "true"),
        ("cache.memory_bytes", 64 << 20, "64MiB"),
        ("limits.frames", 1024, "1024"),
        ("native.snap_widths", (100, 200), "100, 200"),
        ("disk.path", Path(), ""),
        ("source.root", Path(), "."),
    ],
)
def test_a_value_is_formatted_as_its_owner_writes_it(name: str, value: object, text: str) -> None:
    assert format_value(name, value) == text


@pytest.mark.parametrize(
    ("name", "hint", "words"),
    [
        ("a", int, "a whole number"),
        ("a", Annotated[int, Ge(1), Le(9)], "a whole number 1-9"),
        ("a", Annotated[float, Interval(ge=0.1, le=60), doc("time")], "a number 0.1-60"),
        ("a", Annotated[float, Gt(0), Le(60)], "a number above 0 up to 60"),
        ("a_bytes", Annotated[int, Ge(1 << 20)], 'a whole number from 1MiB, in bytes or as text like "64MiB"'),
        ("a", Annotated[Literal["on", "off"], doc("switch")], "on, off"),
        ("a", Annotated[tuple[str, ...], doc("names")], "a list, each text; in a variable separated by commas"),
        ("a", bool, "true or false"),
    ],
)
def test_the_allowed_values_are_described_by_type_and_range(name: str, hint: object, words: str) -> None:
    assert takes(name, hint) == words
