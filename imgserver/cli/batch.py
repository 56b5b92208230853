"""Renders many files in worker processes, without a server: as many at the same time as there are workers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imgserver.engine import sandbox
from imgserver.engine.job import Job, RenderResult
from imgserver.errors import BadRequest, ImgserverError
from imgserver.plan.formats import format_of_media_type, format_of_suffix
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
    """`target` is the path of the result, with the suffix of the result's format; None: the result is not written."""

    file: Path
    target: Path | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Sizes in bytes. `written` is the file with the result; None if it has no target, or was not smaller in place."""

    file: Path
    before: int = 0
    after: int = 0
    outcome: str = ""
    written: Path | None = None
    error: str = ""


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
        written = await asyncio.to_thread(_written, task, result)
    except ImgserverError as error:
        return Outcome(task.file, error=error.detail)
    except OSError as error:
        return Outcome(task.file, error=f"{error.filename}: {error.strerror}")
    kept = written is None and task.target is not None
    after = result.source_bytes if kept else len(result.body)
    return Outcome(task.file, result.source_bytes, after, "kept" if kept else result.outcome, written)


def _written(task: Task, result: RenderResult) -> Path | None:
    """Writes the result and returns its path. In place, only a smaller result of the same format is written.

    Raises BadRequest for another format in place, and OSError.
    """
    if task.target is None:
        return None
    row = format_of_media_type(result.media_type)
    target = task.target
    if format_of_suffix(target.suffix) != row:
        if target.resolve() == task.file.resolve():
            raise BadRequest(f"the result is {row.name if row else result.media_type}: give -o DIR for another format")
        target = target.with_suffix(row.suffix if row else ".json")
    if target.resolve() == task.file.resolve() and len(result.body) >= result.source_bytes:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target.resolve(), result.body)
    return target
