"""`make bench`: runs the benchmarks, prints one table, keeps raw results and writes docs/benchmarks.md."""

import sys
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.cache import measure_cache
from benchmarks.harness import ROOT, Row, keep, machine
from benchmarks.hits import measure_contention, measure_hits
from benchmarks.misses import measure_misses
from benchmarks.overload import measure_overload, measure_start
from benchmarks.redis_clients import measure_redis_clients
from benchmarks.rivals import measure_rivals
from benchmarks.scheduler import measure_scheduler
from benchmarks.signatures import measure_signatures
from benchmarks.soak import measure_soak
from benchmarks.sources import measure_sources
from benchmarks.uploads import measure_uploads

# Each is told how to tell the share that is done; most are over before that would matter.
Benchmark = Callable[[Callable[[float], None]], list[Row]]


def short(measure: Callable[[], list[Row]]) -> Benchmark:
    return lambda _: measure()


BENCHMARKS: dict[str, Benchmark] = {
    "start": short(measure_start),
    "misses": short(measure_misses),
    "hits": short(measure_hits),
    "cache": short(measure_cache),
    "redis_clients": short(measure_redis_clients),
    "contention": short(measure_contention),
    "overload": short(measure_overload),
    "scheduler": short(measure_scheduler),
    "signatures": short(measure_signatures),
    "uploads": short(measure_uploads),
    "sources": short(measure_sources),
    "soak": measure_soak,
    "rivals": short(measure_rivals),
}
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def main(names: list[str]) -> int:
    """Runs those named, or all; 1 when a budget is not kept."""
    console = Console()
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        console.print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
        return 2
    rows: list[Row] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name in names or BENCHMARKS:
            task = progress.add_task(name, total=1)
            found = BENCHMARKS[name](partial(_advance, progress, task))
            keep(name, found)
            rows += found
            progress.update(task, completed=1)
    console.print(_table(rows))
    if not names:
        _write(rows)
    return int(any(row.kept is False for row in rows))


def _advance(progress: Progress, task: TaskID, share: float) -> None:
    progress.update(task, completed=share)


def _table(rows: list[Row]) -> Table:
    table = Table("what", "measured", "budget", "")
    for row in rows:
        table.add_row(row.what, row.value, row.budget, _mark(row))
    return table


def _mark(row: Row) -> str:
    return "" if row.kept is None else "kept" if row.kept else "NOT KEPT"


def _write(rows: list[Row]) -> None:
    """Puts the table between the page's markers."""
    lines = ["| what | measured | budget | |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.value} | {row.budget} | {_mark(row)} |" for row in rows]
    facts = machine()
    lines += ["", f"{facts['cores']} cores, Python {facts['python']}, load average before the end {facts['load']:.1f}."]
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
