"""Which files of a source are listed."""

from imgserver.plan.formats import FORMATS
from imgserver.runtime import resources

# Formats that are off by default, or missing in some installations.
_OPTIONAL = {"svg"} if resources.reads_heic() else {"svg", "heic"}
IMAGE_SUFFIXES = tuple(
    suffix for row in FORMATS.values() if row.readable and row.name not in _OPTIONAL for suffix in row.suffixes
)
# A source may hold millions of files: a listing looks for images among the first ones only.
MAX_LISTED = 2_000


def is_image(path: str) -> bool:
    """Whether the name has the suffix of an image and no part of the path is hidden."""
    return path.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(path)


def is_hidden(path: str) -> bool:
    """Whether the name of the file, or of one of its folders, begins with a dot."""
    return path.startswith(".") or "/." in path
