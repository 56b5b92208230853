"""Renders many files in worker processes, without a server: as many at the same time as there are workers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imgserver.engine import sandbox
from imgserver.engine.job import Job, RenderResult
from imgserver.errors import BadRequest, FramesLost, ImgserverError
from imgserver.plan.formats import Format, format_of_media_type, format_of_suffix
from imgserver.plan.plan import Plan
from imgserver.rendering.admission import Admission, AdmissionSettings, Criticality
from imgserver.rendering.cost import Cost
from imgserver.rendering.worker_pool import WorkerPool
from imgserver.runtime.files import write_atomically
from imgserver.settings.schema import Settings

# Nobody waits for one file of a batch, so the deadline may be longer than that of a request.
MIN_DEADLINE_SECONDS = 60.0
# As many tasks enter as there are workers, so that no estimate is needed.
UNKNOWN_COST = Cost(0.0)


@dataclass(frozen=True, slots=True)
class Task:
    """`target` is the path of the result, whose suffix is replaced by that of the result's format if it is another one;
    None: the result is not written."""

    file: Path
    target: Path | None

    @property
    def in_place(self) -> bool:
        return self.target == self.file

    @property
    def is_copy(self) -> bool:
        """Whether the result is written beside the original."""
        return self.target is not None and not self.in_place


@dataclass(frozen=True, slots=True)
class Outcome:
    """Sizes in bytes. `written` is the file with the result; None if it has no target, or if the file stays as it is.

    `reason` says why a file stays as it is although a smaller one could be written; `left_out` names what the result
    lacks, such as "a video".
    """

    file: Path
    before: int = 0
    after: int = 0
    outcome: str = ""
    written: Path | None = None
    error: str = ""
    reason: str = ""
    left_out: str = ""


async def run(
    tasks: Sequence[Task], plan: Plan, settings: Settings, on_done: Callable[[Outcome], None]
) -> list[Outcome]:
    """The outcomes in the order of the tasks; one that failed has an error. `on_done` is called as each task ends."""
    workers = WorkerPool(
        settings.workers, opener=partial(sandbox.open_engine, svg=settings.limits.svg, plugins=settings.server.plugins)
    )
    await workers.start()
    deadline_seconds = max(MIN_DEADLINE_SECONDS, settings.queue.deadline_seconds)
    admission = Admission(AdmissionSettings(deadline_seconds=deadline_seconds), pool=workers)
    try:
        slots = asyncio.Semaphore(workers.count)

        async def one(task: Task) -> Outcome:
            async with slots:
                outcome = await _one(task, plan, settings, admission, workers)
            on_done(outcome)
            return outcome

        return list(await asyncio.gather(*map(one, tasks)))
    finally:
        await workers.close(grace_seconds=0)


async def _one(task: Task, plan: Plan, settings: Settings, admission: Admission, workers: WorkerPool) -> Outcome:
    job = Job(str(task.file.resolve()), plan, settings.limits, settings.quality, goal="optimize")
    try:
        # A pool of ten workers or more reserves some of them for urgent work.
        with admission.enter(Criticality.URGENT) as ticket:
            result = await workers.render(job, ticket=ticket, cost=UNKNOWN_COST, key=str(task.file))
        if task.in_place and result.left_out:
            return _unchanged(task, f"{result.left_out} would be lost")
        written = await asyncio.to_thread(_written, task, result)
    except FramesLost as error:
        # Without a target nothing is written, so nothing is lost.
        return Outcome(task.file, error=error.detail) if task.is_copy else _unchanged(task, error.detail)
    except ImgserverError as error:
        return Outcome(task.file, error=error.detail)
    except OSError as error:
        return Outcome(task.file, error=f"{error.filename}: {error.strerror}")
    kept = written is None and task.target is not None
    after = result.source_bytes if kept else len(result.body)
    return Outcome(
        task.file,
        result.source_bytes,
        after,
        "kept" if kept else result.outcome,
        written,
        left_out="" if kept else result.left_out,
    )


def _unchanged(task: Task, reason: str) -> Outcome:
    size = task.file.stat().st_size
    return Outcome(task.file, size, size, "kept", reason=reason)


def result_path(target: Path, row: Format) -> Path:
    """The path of a result in this format: `target`, with another suffix if its own is that of another format."""
    return target if format_of_suffix(target.suffix) == row else target.with_suffix(row.suffix)


def _written(task: Task, result: RenderResult) -> Path | None:
    """Writes the result and returns its path. In place, only a smaller result of the same format is written.

    Raises BadRequest for another format in place, and OSError.
    """
    if task.target is None:
        return None
    row = format_of_media_type(result.media_type)
    assert row is not None, "the plan of a batch makes images"
    target = result_path(task.target, row)
    if task.in_place:
        if target != task.target:
            raise BadRequest(f"the result is {row.name}: give -o DIR for another format")
        if len(result.body) >= result.source_bytes:
            return None
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target.resolve(), result.body)
    return target
