"""Which files a batch reads, and where their results go. No result may replace an original or another result."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from imgserver.cli.batch import Task, result_path
from imgserver.plan.formats import FORMATS, possible_formats
from imgserver.plan.plan import Plan
from imgserver.plan.sniffing import HEAD_BYTES, format_of
from imgserver.sources.folder import image_paths

# A message names at most so many files.
MAX_NAMED = 10


def make_tasks(files: Sequence[Path], output: Path | None, plan: Plan, *, in_place: bool) -> list[Task]:
    """One task for each image of the files and folders; an image that is named twice counts once.

    Raises UsageError if a result could replace an original, except in place, or another result.
    """
    named = {file.resolve(): (file, inside) for file, inside in reversed(list(_images(files)))}
    images = list(reversed(named.values()))
    if in_place or output is None:
        return [Task(file, file if in_place else None) for file, _ in images]
    tasks = [Task(file, output / inside) for file, inside in images]
    _refuse_originals(tasks, output)
    _refuse_equal_names(tasks, plan)
    return tasks


def _images(files: Sequence[Path]) -> Iterable[tuple[Path, Path]]:
    """Each image with its path inside the folder that was named."""
    for file in files:
        if file.is_dir():
            yield from ((file / inside, inside) for inside in map(Path, image_paths(file)))
        else:
            yield file, Path(file.name)


def _refuse_originals(tasks: Sequence[Task], output: Path) -> None:
    """Refuses originals in the output folder, and names in it that are links to originals."""
    folder = output.resolve()
    inside = [task.file for task in tasks if task.file.resolve().is_relative_to(folder)]
    if inside:
        raise click.UsageError(f"{_list(inside)} in the output folder {output} could be replaced; see --in-place")
    originals = {task.file.resolve() for task in tasks}
    linked = [task.target for task in tasks if task.target and task.target.resolve() in originals]
    if linked:
        raise click.UsageError(f"{_list(linked)} would replace an original through a link")


def _refuse_equal_names(tasks: Sequence[Task], plan: Plan) -> None:
    """Refuses results that could have one name. Names that differ in case, or in the composition of their letters, are
    one file in the folders of some systems."""
    files: dict[str, list[Path]] = defaultdict(list)
    names: dict[str, Path] = {}
    for task in tasks:
        for path in _possible_paths(task, plan):
            key = unicodedata.normalize("NFC", str(path)).casefold()
            files[key].append(task.file)
            names.setdefault(key, path)
    clashes = [f"{_list(originals)} would both be {names[key]}" for key, originals in files.items() if originals[1:]]
    if clashes:
        more = f"\n... and {len(clashes) - MAX_NAMED} more" if len(clashes) > MAX_NAMED else ""
        raise click.UsageError("\n".join(["nothing was written:", *clashes[:MAX_NAMED]]) + more)


def _possible_paths(task: Task, plan: Plan) -> set[Path]:
    """The paths that the result can have; empty for a file that is no image."""
    assert task.target is not None
    source = _format(task.file)
    if not source:
        return set()
    return {result_path(task.target, FORMATS[name]) for name in possible_formats(plan, source)}


def _format(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return format_of(opened.read(HEAD_BYTES))
    except OSError:
        return ""  # its task will report the error


def _list(paths: Sequence[Path]) -> str:
    *first, last = map(str, paths[:MAX_NAMED])
    more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
    return f"{', '.join(first)} and {last}{more}" if first else f"{last}{more}"
