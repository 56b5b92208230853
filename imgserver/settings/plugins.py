"""Plug-ins: modules that add rows to the registries of dialects, sources, cache tiers and encoders."""

import importlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib import metadata
from pathlib import Path


def import_plugins(names: Iterable[str]) -> Iterator[str]:
    """Imports the modules with these dotted names. Yields a sentence for each module that cannot be imported."""
    for name in names:
        try:
            importlib.import_module(name)
        # A module of a third party may raise anything.
        except Exception as error:
            yield f"server.plugins: {name} cannot be imported: {type(error).__name__}: {error}"


def plugin_version(name: str) -> str:
    """The name of an imported module, the version of its package, and a digest of its file, which changes while the
    package is developed: a part of every cache key, because an encoder of a plug-in decides what is rendered."""
    module = importlib.import_module(name)
    try:
        version = metadata.version(name.partition(".")[0])
    except metadata.PackageNotFoundError:
        version = str(getattr(module, "__version__", ""))
    file = module.__file__
    content = Path(file).read_bytes() if file is not None else b""
    return f"{name} {version} {sha256(content).hexdigest()}"
