"""A server process of its own, to be killed: prints its workers' pids and states, then waits for its end."""

import asyncio
import sys
import time
from pathlib import Path

from imgserver.rendering.worker_pool import WorkerPool, WorkerSettings
from tests.faults import actions


async def serve(folder: Path) -> None:
    workers = WorkerPool(WorkerSettings(count=2), work=actions.perform, opener=actions.opener)
    await workers.start()
    await workers.until_whole()
    deadline = time.monotonic() + 600
    mark = folder / "busy"
    tasks = [
        asyncio.ensure_future(workers.render(actions.job(deed, argument), deadline=deadline, key=deed))
        for deed, argument in (("nap", f"500,{mark}"), ("stop", ""))
    ]
    while not (mark.exists() and mark.read_text()):
        await asyncio.sleep(0.01)
    print(*workers.pids, flush=True)  # noqa: T201 - how the test learns them
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
