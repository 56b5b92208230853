"""The server's own dialect, for commands that read or write URLs."""

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.plan import SourceRef

# The only source so far; the server knows it by the same name.
SOURCE = "photos"


def make_dialect(settings: NativeSettings) -> NativeDialect:
    return NativeDialect(settings, sources=frozenset({SOURCE}), default_source=SOURCE)


def make_target(dialect: NativeDialect, path: str, options: str) -> str:
    """`/img/<options>/<path>`, quoted and checked. Raises the errors of `parse`."""
    return dialect.build(SourceRef(SOURCE, path), options)
