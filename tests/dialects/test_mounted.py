"""Several dialects of one server: the mount of a target selects one."""

import pytest

from imgserver.dialects import MountedDialects
from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.errors import NotFound
from imgserver.plan.plan import SourceRef


def mounted(*mounts: str) -> MountedDialects:
    """Native dialects, each with a default source that has the name of the mount."""
    return MountedDialects(
        {
            mount.strip("/"): NativeDialect(NativeSettings(), {mount.strip("/")}, mount.strip("/"), mount=mount)
            for mount in mounts
        }
    )


def test_the_mount_selects_the_dialect() -> None:
    dialects = mounted("/one/", "/two/")

    assert dialects.mounts == ("/one/", "/two/")
    assert dialects.parse("/one/a.jpg").ref == SourceRef("one", "a.jpg")
    assert dialects.parse("/two/w_100/a.jpg").ref == SourceRef("two", "a.jpg")


def test_percent_encoded_letters_of_a_mount_select_the_same_dialect() -> None:
    dialects = mounted("/one/", "/two/")

    assert dialects.parse("/on%65/a.jpg").ref == SourceRef("one", "a.jpg")
    assert dialects.parse("/%74wo/w_100/a.jpg").ref == SourceRef("two", "a.jpg")
    with pytest.raises(NotFound):
        dialects.parse("/two%2Fa.jpg")


def test_a_target_under_no_mount_is_not_found() -> None:
    with pytest.raises(NotFound):
        mounted("/one/", "/two/").parse("/three/a.jpg")


@pytest.mark.parametrize(
    ("mounts", "fault"),
    [
        (("/one/", "/one/two/"), "the mounts of the dialects one and one/two overlap"),
        (("/api/",), "the mount '/api/' is not allowed"),
        (("/",), "the mount '/' is not allowed"),
        (("/one",), "the mount '/one' is not allowed"),
    ],
)
def test_mounts_that_overlap_or_that_the_server_uses_are_refused(mounts: tuple[str, ...], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        MountedDialects(
            {mount.strip("/"): NativeDialect(NativeSettings(), {"a"}, "a", mount=mount) for mount in mounts}
        )
