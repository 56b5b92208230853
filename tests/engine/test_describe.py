"""Names of color profiles, in both versions of the standard, and from malformed bytes."""

import struct

import pytest

from imgserver.engine.describe import profile_name


def profile(tag: bytes, *, signature: bytes = b"desc") -> bytes:
    return bytes(128) + struct.pack(">I4sII", 1, signature, 144, len(tag)) + tag


OLD = b"desc" + bytes(4) + struct.pack(">I", 10) + b"Adobe RGB\0"
NEW = (
    b"mluc"
    + bytes(4)
    + struct.pack(">II", 1, 12)
    + b"enUS"
    + struct.pack(">II", 20, 28)
    + "Display P3".encode("utf-16-be")
)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (profile(OLD), "Adobe RGB"),
        (profile(NEW), "Display P3"),
        (profile(OLD, signature=b"wtpt"), ""),
        (profile(OLD[:9]), ""),
        (profile(b"desc" + bytes(4) + struct.pack(">I", 2) + b"\xff\xff"), ""),
        (bytes(128) + b"\xff\xff\xff\xff", ""),
        (b"", ""),
    ],
)
def test_the_name_of_a_profile_is_read_or_empty(given: bytes, name: str) -> None:
    assert profile_name(given) == name
