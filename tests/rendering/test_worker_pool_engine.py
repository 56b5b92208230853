"""The real engine in real workers, on real photographs."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from imgserver.engine.job import Job, RenderResult
from imgserver.errors import BrokenImage, UnsupportedImage
from imgserver.plan.plan import Fit, Orient, Output, Plan, Px
from imgserver.rendering.worker_pool import WorkerSettings
from tests.faults.conftest import ScheduledPool

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture
async def engine():
    workers = ScheduledPool(WorkerSettings(count=2))
    await workers.start()
    yield workers
    await workers.close(grace_seconds=5)


async def render(workers: ScheduledPool, path: Path, *, width: int = 400, format: str = "jpg") -> RenderResult:
    plan = Plan(steps=(Orient(), Fit(width=Px(width))), output=Output(format=format))
    return await workers.render_by(time.monotonic() + 20, Job(str(path), plan), key=f"{path.name} {width} {format}")


@pytest.mark.parametrize("format", ["jpg", "webp", "png", "avif"])
async def test_photographs_are_rendered(engine, format):
    result = await render(engine, SAMPLES / "sunset.jpg", format=format)

    with Image.open(io.BytesIO(result.body)) as image:
        image.load()
        assert (image.width, image.width) == (400, result.size.width)
    assert result.timings.cpu_seconds > 0


async def test_codecs_report_version_and_formats(engine):
    assert engine.codecs.version.startswith("8.")
    assert {"jpg", "png", "webp", "avif", "gif"} <= set(engine.codecs.read) & set(engine.codecs.write)


async def test_bad_files_raise_errors_and_the_worker_survives(engine, tmp_path):
    truncated, text = tmp_path / "cut.jpg", tmp_path / "text.jpg"
    truncated.write_bytes((SAMPLES / "sunset.jpg").read_bytes()[:20_000])
    text.write_text("no picture at all, whatever its name says")
    pids = engine.pids

    with pytest.raises(BrokenImage):
        await render(engine, truncated)
    with pytest.raises(UnsupportedImage):
        await render(engine, text)
    assert set(pids) <= set(engine.pids)


async def test_a_kill_in_the_middle_of_a_photograph_is_retried(engine):
    await engine.until_whole()
    task = asyncio.ensure_future(render(engine, SAMPLES / "sunset.jpg", width=3000, format="avif"))
    while not engine.statistics().busy:
        await asyncio.sleep(0)
    before = engine.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    result = await task

    assert result.media_type == "image/avif"
    assert not set(before) & set(engine.pids)


async def test_a_worker_keeps_within_its_memory_budget(engine):
    """Between renders the heap holds 60 to 160 MB, by chance; a slope shows only over thousands of renders."""
    for path in [SAMPLES / "creek.jpg", SAMPLES / "sunset.jpg"] * 10:
        await render(engine, path)
        assert max(engine.statistics().rss_bytes.values()) < 200 << 20

    assert sum(engine.statistics().restarts.values()) == 0


PARENT = """
import asyncio, sys, time
from imgserver.engine.job import Job
from imgserver.errors import ImgserverError
from imgserver.plan.plan import Fit, Plan, Px
from imgserver.rendering.worker_pool import WorkerSettings
from tests.faults.conftest import ScheduledPool

async def main():
    workers = ScheduledPool(WorkerSettings(count=1))
    await workers.start()
    for path in sys.argv[1:]:
        try:
            await workers.render_by(time.monotonic() + 20, Job(path, Plan(steps=(Fit(width=Px(99)),))), key=path)
        except ImgserverError as error:
            assert path.endswith("py"), error
    await workers.close(grace_seconds=1)
    assert not {"pyvips", "_libvips", "imgserver.engine.vips"} & sys.modules.keys()

asyncio.run(main())
"""


def test_the_server_process_never_loads_libvips():
    command = [sys.executable, "-c", PARENT, str(SAMPLES / "cat.png"), __file__]
    subprocess.run(command, check=True, timeout=60)
