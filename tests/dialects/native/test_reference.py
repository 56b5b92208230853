"""The URL reference is written from the rows of the parser, and its examples are parsed."""

import re
from pathlib import Path
from typing import Any

import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.dialects.native.reference import TABLES, main, update
from imgserver.security.signing import Keyring, SigningKey

PAGE = Path(__file__).parents[3] / "docs" / "urls.md"
DIALECT = NativeDialect(
    NativeSettings(),
    {"photos", "shop"},
    "photos",
    presets={"card": "c_fill,w_400,h_300,g_auto/f_auto"},
    keyring=Keyring((SigningKey(bytes(range(32))),)),
)
ROW = re.compile(r"^\| ((?:`[^`]+`(?:, )?)+) \| (.*) \|$", re.MULTILINE)


def examples() -> list[str]:
    page = PAGE.read_text(encoding="utf-8")
    tasks = page[page.index("## Common tasks") : page.index("## Segments and order")]
    tails = [tail for row in ROW.findall(tasks) for tail in re.findall(r"`([^`]+)`", row[0])]
    written = re.findall(r"/img/[^\s\"`)└]+", page)
    return [f"/img/{tail}" for tail in tails if tail != "/img/"] + [found for found in written if found != "/img/"]


def test_the_tables_in_the_url_reference_are_up_to_date() -> None:
    """If this fails: python -m imgserver.dialects.native.reference docs/urls.md"""
    page = PAGE.read_text(encoding="utf-8")

    assert update(page) == page


def test_every_table_is_in_the_url_reference() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert set(TABLES) == set(re.findall(r"<!-- begin (\w+) -->", page))


def test_a_stale_table_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin flags -->\nold\n<!-- end flags -->\nafter\n")
    main([str(page)])

    assert page.read_text() == f"before\n<!-- begin flags -->\n\n{TABLES['flags']()}\n<!-- end flags -->\nafter\n"


def test_there_are_examples() -> None:
    assert len(examples()) > 40


@pytest.mark.parametrize("target", examples())
def test_every_example_of_the_url_reference_is_parsed(target: str) -> None:
    assert DIALECT.parse(target).ref.path


def test_the_signing_program_of_the_url_reference_signs_its_examples() -> None:
    page = PAGE.read_text(encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], scope)

    for rest in ("w_800,q_80/photo.jpg", "exp_1798761600/w_800,q_80/photo.jpg"):
        assert scope["sign"](bytes(range(32)).hex(), rest) in page
