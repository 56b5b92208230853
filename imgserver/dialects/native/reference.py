"""Writes the tables of the URL reference from the rows that the parser uses.

    python -m imgserver.dialects.native.reference docs/urls.md

It replaces only the text between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.dialects.native.effects import EFFECTS
from imgserver.dialects.native.flags import FLAGS
from imgserver.dialects.native.modes import GRAVITIES, MODES, Mode
from imgserver.dialects.native.options import OPTIONS
from imgserver.plan.formats import QUALITY_LEVELS
from imgserver.plan.geometry import bind_plan
from imgserver.plan.plan import Dims

BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
PHOTO = Dims(1200, 800)


def update(page: str) -> str:
    """The page with all tables as the rows have them now. Raises KeyError for an unknown table."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block[2]]()}\n{block[3]}", page)


def _options() -> str:
    limits = NativeSettings()
    rows = (
        (f"`{row.key}`", row.name, row.allowed.format(max_side=limits.max_side), row.meaning + _scope(row.scope))
        for row in OPTIONS.values()
        if not row.later
    )
    return _table(("key", "long name", "values", "meaning"), rows)


def _scope(scope: str) -> str:
    return " (whole URL)" if scope == "url" else ""


def _modes() -> str:
    words = {"one": "one or two of w, h, ar", "box": "two of w, h, ar, or ar alone", "two": "two of w, h, ar"}
    rows = ((f"`{row.name}`", row.meaning, words[row.needs], _example(row)) for row in MODES.values())
    return _table(("mode", "result", "needs", "1200×800 in a box of 1500×1500"), rows)


def _example(mode: Mode) -> str:
    gravity = ",g_center" if mode.crops else ""
    dialect = NativeDialect(NativeSettings(), {"photos"}, "photos")
    after = bind_plan(dialect.parse(f"/img/c_{mode.name},w_1500,h_1500{gravity}/photo.jpg").plan, PHOTO).after
    return f"{after.width}×{after.height}"


def _gravities() -> str:
    return " ".join(f"`{word}`" for word in GRAVITIES) + "\n"


def _effects() -> str:
    rows = ((f"`e_{row.name}`", row.argument, row.meaning) for row in EFFECTS.values())
    return _table(("effect", "argument", "meaning"), rows)


def _flags() -> str:
    return _table(("flag", "meaning"), ((f"`fl_{name}`", meaning) for name, meaning in FLAGS.items()))


def _quality() -> str:
    levels = tuple(QUALITY_LEVELS["jpg"])
    rows = ((name, *(str(row[level]) for level in levels)) for name, row in QUALITY_LEVELS.items())
    return _table(("format", *(f"`auto:{level}`" for level in levels)), rows)


def _limits() -> str:
    limits = NativeSettings()
    numbers = ((field.name, getattr(limits, field.name)) for field in fields(NativeSettings))
    rows = ((f"`{name}`", f"{limit:,}") for name, limit in numbers if type(limit) is int)
    return _table(("setting in section `native`", "default"), rows)


def _later() -> str:
    rows = ((f"`{row.key}`", row.name, row.meaning) for row in OPTIONS.values() if row.later)
    return _table(("key", "long name", "meaning"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "options": _options,
    "modes": _modes,
    "gravities": _gravities,
    "effects": _effects,
    "flags": _flags,
    "quality": _quality,
    "limits": _limits,
    "later": _later,
}


def main(arguments: list[str]) -> None:
    for name in arguments:
        page = Path(name)
        page.write_text(update(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
