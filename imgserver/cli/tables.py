"""How commands print tables."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

# More characters than any line has.
UNBOUNDED = 1_000_000


def print_table(table: "RenderableType") -> None:
    """Prints within the width of the terminal; in a pipe or a file, every row is one line with whole values, which
    another program may read."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=UNBOUNDED)
    console.print(table)
