"""Rules over paths."""

import pytest

from imgserver.cache.cache_tags import TAGS_LIMIT, Tags

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
def test_an_original_has_the_tags_of_the_rules_it_meets(path, expected):
    assert TAGS.of_path(path) == expected


def test_names_are_told_once():
    assert TAGS.names == ("summer", "press", "all")


def test_the_first_tags_count_when_there_are_too_many():
    tags = Tags.of({f"t{number}": "*" for number in range(TAGS_LIMIT + 5)})

    assert tags.of_path("a") == tuple(f"t{number}" for number in range(TAGS_LIMIT))
