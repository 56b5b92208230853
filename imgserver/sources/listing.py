"""What a file's name tells of it."""

from pathlib import PurePosixPath

from imgserver.plan.formats import FORMATS
from imgserver.runtime import resources

# Off by default, or not in every installation.
_OPTIONAL = {"svg"} if resources.reads_heic() else {"svg", "heic"}
PICTURE_SUFFIXES = tuple(
    suffix for row in FORMATS.values() if row.readable and row.name not in _OPTIONAL for suffix in row.suffixes
)
# A source may hold millions of files; who shows some of its pictures looks at the first of them.
LOOKED_AT = 2_000


def is_picture(path: str) -> bool:
    """Whether it is named like one, and neither it nor a folder above it is hidden."""
    return path.lower().endswith(PICTURE_SUFFIXES) and not any(
        part.startswith(".") for part in PurePosixPath(path).parts
    )
