"""A decode that needs too much memory is a refusal, in a process with a memory limit like that of a worker."""

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from imgserver.engine.job import Job
from imgserver.engine.render import render
from imgserver.engine.vips import open_engine
from imgserver.errors import ImageOverLimit
from imgserver.plan.plan import Fit, Plan, Px, Turn
from tests import decompression_bombs


def _limited(ceiling: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    open_engine()


def _render(path: str) -> tuple[int, int]:
    size = render(Job(path, Plan((Turn(6), Fit(Px(200)))))).size
    return size.width, size.height


@pytest.mark.parametrize(("mega", "fits"), [(300, False), (1024, True)])
def test_running_out_of_memory_is_a_refusal_and_the_process_lives(tmp_path: Path, mega: int, fits: bool) -> None:
    """7,000 × 7,000 RGBA, interlaced: 196 MB in one piece. Spawned, because this process may have used libvips."""
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    large.write_bytes(decompression_bombs.interlaced_png(7_000))
    small.write_bytes(decompression_bombs.interlaced_png(300))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_limited, initargs=(mega << 20,)) as worker:
        if fits:
            assert worker.submit(_render, str(large)).result(60) == (200, 200)
        else:
            with pytest.raises(ImageOverLimit, match="memory"):
                worker.submit(_render, str(large)).result(60)
        assert worker.submit(_render, str(small)).result(60) == (200, 200)
