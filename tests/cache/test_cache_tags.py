from hypothesis import given
from hypothesis import strategies as st

from imgserver.cache.cache_tags import (
    ALL,
    DEPTH_LIMIT,
    TOLD_LIMIT,
    groups_of,
    is_group,
    key_group,
    prefix_group,
    source_group,
    tag_group,
    told,
)
from imgserver.plan import canonical
from imgserver.plan.plan import SourceRef

REF = SourceRef("folder", "a/b/c.jpg")


def test_a_record_belongs_to_everything_its_directories_its_original_its_key_and_its_tags():
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


def test_a_prefix_is_a_directory_and_not_the_beginning_of_a_name():
    groups = groups_of(REF)

    assert prefix_group("folder", "/a/b/") in groups
    assert prefix_group("folder", "a/b/c") not in groups
    assert prefix_group("folder", "a/") in groups
    assert prefix_group("folder", "a/bb") not in groups
    assert prefix_group("other", "a") not in groups


def test_an_originals_group_begins_the_digest_in_its_keys():
    assert canonical.source_digest(REF).startswith(source_group(REF)[1:])


def test_names_do_not_leak_and_groups_are_short_printable_words():
    for group in groups_of(SourceRef("secret source", "secret dir/secret.jpg"), key="secret", tags=("secret tag",)):
        assert len(group) <= 17
        assert group.isascii() and group.isalnum()


@given(st.integers(0, 100))
def test_a_purge_of_too_deep_a_directory_takes_its_ancestor(depth):
    path = "/".join(["d"] * depth)
    groups = groups_of(SourceRef("folder", path + "/x.jpg"))

    assert prefix_group("folder", path) in groups
    assert len(groups) <= DEPTH_LIMIT + 3


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_name_has_a_group(name, other):
    assert (tag_group(name) == tag_group(other)) == (name == other)


def test_others_are_told_all_but_the_pictures_own_group():
    groups = groups_of(REF, key="1/x/y", tags=("red",))

    assert told(groups) == groups_of(REF, tags=("red",))


def test_of_too_many_groups_the_deep_folders_are_left_out():
    ref = SourceRef("folder", "/".join("abcdefghijklmnopqrstuvwxyz") + ".jpg")
    groups = told(groups_of(ref, key="1/x/y", tags=("red", "blue")))

    assert len(groups) == TOLD_LIMIT
    assert {ALL, source_group(ref), tag_group("red"), tag_group("blue"), prefix_group("folder", "")} <= set(groups)
    assert prefix_group("folder", "a/b/c") in groups
    assert prefix_group("folder", "/".join("abcdefghijklmnopqrstuvwxy")) not in groups


def test_a_group_is_known_by_its_spelling():
    assert all(is_group(group) for group in groups_of(REF, key="1/x/y", tags=("red",)))
    assert not any(map(is_group, ("", "b", "a0", "s123", "S57862b9718b7cf50", "x57862b9718b7cf50", ALL + "\n")))
