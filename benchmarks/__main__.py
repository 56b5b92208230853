"""`make bench`: runs the benchmarks, prints a table, stores the raw results and updates docs/benchmarks.md."""

import sys
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.cache import measure_cache
from benchmarks.goodput import measure_goodput
from benchmarks.harness import ROOT, Row, machine, store
from benchmarks.hits import measure_contention, measure_hits
from benchmarks.hops import measure_hops
from benchmarks.memory import measure_memory
from benchmarks.misses import measure_misses
from benchmarks.overload import measure_overload, measure_start
from benchmarks.peers import measure_peers
from benchmarks.redis_clients import measure_redis_clients
from benchmarks.scheduler import measure_scheduler
from benchmarks.signatures import measure_signatures
from benchmarks.soak import measure_soak
from benchmarks.sources import measure_sources
from benchmarks.uploads import measure_uploads

# The argument reports the fraction that is done, 0.0 to 1.0. Short benchmarks do not report it.
Benchmark = Callable[[Callable[[float], None]], list[Row]]


def short(measure: Callable[[], list[Row]]) -> Benchmark:
    return lambda _: measure()


BENCHMARKS: dict[str, Benchmark] = {
    "start": short(measure_start),
    "misses": short(measure_misses),
    "hits": short(measure_hits),
    "hops": short(measure_hops),
    "cache": short(measure_cache),
    "redis_clients": short(measure_redis_clients),
    "contention": short(measure_contention),
    "overload": short(measure_overload),
    "goodput": short(measure_goodput),
    "scheduler": short(measure_scheduler),
    "signatures": short(measure_signatures),
    "uploads": short(measure_uploads),
    "memory": short(measure_memory),
    "sources": short(measure_sources),
    "soak": measure_soak,
    "peers": short(measure_peers),
}
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def main(names: list[str]) -> int:
    """Runs the named benchmarks, or all. Returns 1 if a budget is exceeded, 2 for an unknown name."""
    console = Console()
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        console.print(f"no benchmark {', '.join(unknown)}; known: {', '.join(BENCHMARKS)}")
        return 2
    rows: list[Row] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name in names or BENCHMARKS:
            task = progress.add_task(name, total=1)
            found = BENCHMARKS[name](partial(_advance, progress, task))
            store(name, found)
            rows += found
            progress.update(task, completed=1)
    console.print(_table(rows))
    if not names:
        _write(rows)
    return int(any(row.kept is False for row in rows))


def _advance(progress: Progress, task: TaskID, fraction: float) -> None:
    progress.update(task, completed=fraction)


def _table(rows: list[Row]) -> Table:
    table = Table("what", "measured", "budget", "")
    for row in rows:
        table.add_row(row.what, row.value, row.budget, _mark(row))
    return table


def _mark(row: Row) -> str:
    return "" if row.kept is None else "kept" if row.kept else "NOT KEPT"


def _write(rows: list[Row]) -> None:
    """Replaces the table between the markers of the page."""
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
