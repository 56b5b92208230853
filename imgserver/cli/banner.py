"""What `imgserver serve` prints once it listens: pictures of the folder, transformed, as URLs to click."""

import os
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import quote

from imgserver.formats import FORMATS, READABLE

# A folder may hold millions of files; the first pictures are enough, and start-up must not wait for the rest.
LOOKED_AT = 2_000
SUFFIXES = {FORMATS[name].suffix for name in READABLE - {"svg"}} | {".jpeg", ".tiff"}

SHOWN = (
    ("w_400", "at most 400 wide"),
    ("c_fill,w_400,h_400,g_auto", "a square around what draws the eye"),
    ("w_800,f_auto", "AVIF, WebP or JPEG, as the browser likes"),
    ("w_600,e_grayscale", "black and white"),
    ("c_fill,w_300,h_300/r_max,f_png", "round, transparent corners"),
    ("w_800,f_info", "JSON: the original, and what it would become"),
)


def announce(base: str, *, root: Path) -> None:
    """Prints the URLs. `base` is the server's address without a slash at the end."""
    from rich.console import Console
    from rich.markup import escape

    # Lines, not a rich table: a table cuts what is wider than the terminal, and a cut URL is no URL.
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]imgserver[/bold] serves {escape(str(root))} at [link={base}]{base}[/link]; Ctrl-C stops it\n")
    shown = examples(base, root)
    column = max(len(meaning) for _, meaning in shown) + 2
    for url, meaning in shown:
        console.print(f"  [dim]{escape(meaning.ljust(column))}[/dim][cyan][link={url}]{escape(url)}[/link][/cyan]")


def examples(base: str, root: Path) -> list[tuple[str, str]]:
    """URLs with their meanings: each transformation on another picture while there are some, and the health page."""
    pictures = list(islice(_pictures(root), len(SHOWN)))
    shown = [
        (f"{base}/img/{options}/{quote(name)}", text)
        for (options, text), name in zip(SHOWN, cycle(pictures), strict=False)
    ]
    hint = [] if pictures else [(f"{base}/img/w_400/<file>", f"no pictures in {root} yet; put some there")]
    return [*shown, *hint, (f"{base}/api/health", "is it well")]


def _pictures(root: Path) -> Iterator[str]:
    """Paths inside `root`, in order of their names, a folder's own files before its folders."""
    seen = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            seen += 1
            if seen > LOOKED_AT:
                return
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()
