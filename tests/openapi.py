"""The description of the interface, with its references followed."""

from collections.abc import Iterator
from typing import Any

import yaml

from tests.running_server import ROOT

PAGE = ROOT / "docs" / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PAGE.read_text("utf-8"))


def followed(node: Any) -> Any:
    """`node`, or what it refers to."""
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
    """A schema that stands alone: its references lead into what it brings along."""
    return {**node, "components": DOCUMENT["components"]}
