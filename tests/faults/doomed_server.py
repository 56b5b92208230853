"""A process with workers that a test kills: it prints the ids of its workers, then waits."""

import asyncio
import sys
import time
from pathlib import Path

from imgserver.rendering.worker_pool import WorkerSettings
from tests.faults import actions
from tests.faults.conftest import ScheduledPool


async def serve(folder: Path) -> None:
    workers = ScheduledPool(WorkerSettings(count=2), work=actions.perform, opener=actions.opener)
    await workers.start()
    await workers.until_whole()
    deadline = time.monotonic() + 600
    mark = folder / "busy"
    tasks = [
        asyncio.ensure_future(workers.render_by(deadline, actions.job(action, argument), key=action))
        for action, argument in (("nap", f"500,{mark}"), ("stop", ""))
    ]
    while not (mark.exists() and mark.read_text()):
        await asyncio.sleep(0.01)
    print(*workers.pids, flush=True)  # noqa: T201 - the test reads them
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
