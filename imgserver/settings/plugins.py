"""Plug-ins: modules that add rows to the registries of dialects, sources, cache tiers and encoders."""

import importlib
from collections.abc import Iterable, Iterator


def import_plugins(names: Iterable[str]) -> Iterator[str]:
    """Imports the modules with these dotted names. Yields a sentence for each module that cannot be imported."""
    for name in names:
        try:
            importlib.import_module(name)
        # A module of a third party may raise anything.
        except Exception as error:
            yield f"server.plugins: {name} cannot be imported: {type(error).__name__}: {error}"
