"""The server's own dialect, for commands that read or write URLs."""

from imgserver.dialects.native import NativeDialect
from imgserver.plan import SourceRef
from imgserver.settings import DEFAULT_SOURCE, Settings

# The only source so far; the server knows it by the same name.
SOURCE = DEFAULT_SOURCE


def make_dialect(settings: Settings) -> NativeDialect:
    return NativeDialect(
        settings.native,
        sources=frozenset({SOURCE}),
        default_source=SOURCE,
        presets=settings.presets,
        keyring=settings.signing.keyring(),
    )


def make_target(dialect: NativeDialect, path: str, options: str) -> str:
    """`/img/<options>/<path>`, quoted and checked. Raises the errors of `parse`."""
    return dialect.build(SourceRef(SOURCE, path), options)


def make_signed(dialect: NativeDialect, path: str, options: str) -> str:
    """The same, signed. Raises SignatureRefused where there is no key to sign with."""
    return dialect.build_signed(SourceRef(SOURCE, path), options)
