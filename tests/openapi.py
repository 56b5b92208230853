"""docs/openapi.yaml, with its references resolved."""

from collections.abc import Iterator
from typing import Any

import yaml

from tests.running_server import ROOT

PAGE = ROOT / "docs" / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PAGE.read_text("utf-8"))


def resolved(node: Any) -> Any:
    """`node`, or the node that its $ref names."""
    while isinstance(node, dict) and "$ref" in node:
        found: Any = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        node = found
    return node


def operations() -> Iterator[tuple[str, str, Any]]:
    """(path, METHOD, operation)."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method not in ("parameters", "description"):
                yield path, method.upper(), operation


def schema(node: Any) -> Any:
    """A self-contained schema: its references point into the components that are added to it."""
    return {**node, "components": DOCUMENT["components"]}
