"""The configurations that docs/caching.md shows. They are what runs here, so that the page is true."""

import re

from tests.running_server import ROOT

PAGE = ROOT / "docs" / "caching.md"


def example(language: str, containing: str) -> str:
    """The one block of this language that contains these words."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    (block,) = [block for block in blocks if containing in block]
    return block


def fitted(text: str, changes: dict[str, str]) -> str:
    """`text` at home in a test: addresses and folders changed, each of which stands in it exactly once."""
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the example"
        text = text.replace(old, new)
    return text
