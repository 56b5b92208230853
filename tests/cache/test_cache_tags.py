"""Cache groups and tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.cache.cache_tags import (
    ALL,
    MAX_DEPTH,
    MAX_HEADER_GROUPS,
    MAX_TAGS,
    Tags,
    groups_of,
    header_groups,
    is_group,
    key_group,
    prefix_group,
    source_group,
    tag_group,
)
from imgserver.plan import canonical
from imgserver.plan.plan import SourceRef

REF = SourceRef("folder", "a/b/c.jpg")
TAGS = Tags.of({"summer": "campaigns/2026/  *sun*.jpg", "press": "press/*.png", "all": "*"})


def test_a_record_has_the_groups_of_everything_its_folders_original_key_and_tags():
    assert groups_of(REF, key="1/x/y", tags=("red", "blue")) == (
        ALL,
        prefix_group("folder", ""),
        prefix_group("folder", "a"),
        prefix_group("folder", "a/b"),
        source_group(REF),
        key_group("1/x/y"),
        tag_group("red"),
        tag_group("blue"),
    )


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name():
    groups = groups_of(REF)

    assert prefix_group("folder", "/a/b/") in groups
    assert prefix_group("folder", "a/b/c") not in groups
    assert prefix_group("folder", "a/") in groups
    assert prefix_group("folder", "a/bb") not in groups
    assert prefix_group("other", "a") not in groups


def test_the_source_digest_begins_with_the_digits_of_the_group():
    assert canonical.source_digest(REF).startswith(source_group(REF)[1:])


def test_groups_are_short_and_do_not_leak_names():
    for group in groups_of(SourceRef("secret source", "secret dir/secret.jpg"), key="secret", tags=("secret tag",)):
        assert len(group) <= 17
        assert group.isascii() and group.isalnum()


@given(st.integers(0, 100))
def test_a_folder_that_is_too_deep_is_purged_with_its_ancestor(depth):
    path = "/".join(["d"] * depth)
    groups = groups_of(SourceRef("folder", path + "/x.jpg"))

    assert prefix_group("folder", path) in groups
    assert len(groups) <= MAX_DEPTH + 3


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_name_has_a_group(name, other):
    assert (tag_group(name) == tag_group(other)) == (name == other)


def test_headers_name_all_groups_but_that_of_the_key():
    groups = groups_of(REF, key="1/x/y", tags=("red",))

    assert header_groups(groups) == groups_of(REF, tags=("red",))


def test_headers_leave_out_the_deepest_folders():
    ref = SourceRef("folder", "/".join("abcdefghijklmnopqrstuvwxyz") + ".jpg")
    groups = header_groups(groups_of(ref, key="1/x/y", tags=("red", "blue")))

    assert len(groups) == MAX_HEADER_GROUPS
    assert {ALL, source_group(ref), tag_group("red"), tag_group("blue"), prefix_group("folder", "")} <= set(groups)
    assert prefix_group("folder", "a/b/c") in groups
    assert prefix_group("folder", "/".join("abcdefghijklmnopqrstuvwxy")) not in groups


def test_is_group_checks_the_form_of_a_group():
    assert all(is_group(group) for group in groups_of(REF, key="1/x/y", tags=("red",)))
    assert not any(map(is_group, ("", "b", "a0", "s123", "S57862b9718b7cf50", "x57862b9718b7cf50", ALL + "\n")))


# Tags.


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
