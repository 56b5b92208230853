"""Patterns of paths."""

import pytest

from imgserver.cache.cache_tags import MAX_TAGS, Tags

TAGS = Tags.of({"summer": "campaigns/2026/  *sun*.jpg", "press": "press/*.png", "all": "*"})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("campaigns/2026/a/b.jpg", ("summer", "all")),
        ("campaigns/2026.jpg", ("all",)),
        ("old/sunset.jpg", ("summer", "all")),
        ("press/a.png", ("press", "all")),
        ("press/deep/a.png", ("press", "all")),
        ("Press/a.png", ("all",)),
        ("cat.png", ("all",)),
    ],
)
def test_an_original_has_the_tags_whose_patterns_match_its_path(path, expected):
    assert TAGS.of_path(path) == expected


def test_each_tag_name_is_listed_once():
    assert TAGS.names == ("summer", "press", "all")


def test_an_original_has_the_first_tags_when_too_many_match():
    tags = Tags.of({f"t{number}": "*" for number in range(MAX_TAGS + 5)})

    assert tags.of_path("a") == tuple(f"t{number}" for number in range(MAX_TAGS))
