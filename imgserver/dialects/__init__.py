"""Dialects: URL grammars. Each turns a request target into an `ImageRequest`.

To add a dialect: a module with a class that satisfies `Dialect`, and its row in `DIALECTS`. A server serves all
dialects of the registry, each under its own mount. `imgserver.testing.DialectContract` tests a dialect.
docs/extending.md has an example.

The code after a dialect reads the plan only: nothing else reads the URL, and nothing depends on the dialect.
"""

from collections.abc import Callable

from imgserver.dialects.dialect import Dialect, DialectConfig
from imgserver.dialects.mounted import MountedDialects
from imgserver.dialects.native import NativeDialect

__all__ = ["DIALECTS", "Dialect", "DialectConfig", "MountedDialects"]

# A factory raises ValueError for a configuration that the dialect cannot serve.
DIALECTS: dict[str, Callable[[DialectConfig], Dialect]] = {"native": NativeDialect.of}
