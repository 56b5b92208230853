"""The configurations that docs/caching.md shows. The tests run them, so that the page is true."""

import re

from tests.running_server import ROOT

PAGE = ROOT / "docs" / "caching.md"


def example(language: str, containing: str) -> str:
    """The only code block in this language that contains `containing`."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    (block,) = [block for block in blocks if containing in block]
    return block


def fitted(text: str, changes: dict[str, str]) -> str:
    """`text` with addresses and folders replaced. Each of them must occur in it exactly once."""
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in the example"
        text = text.replace(old, new)
    return text
