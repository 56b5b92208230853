"""Fault 13: workers that cannot start, and a server that learns when they can again."""

import asyncio
import time
from functools import partial
from itertools import pairwise

import pytest

from imgserver.errors import Quarantined, Unavailable
from tests.faults import actions
from tests.faults.conftest import do, running, until


@pytest.mark.parametrize("opener", [actions.broken_opener, actions.dying_opener])
async def test_failing_starts_back_off_and_renders_are_refused_at_once(opener):
    attempts = []

    def note(event):
        if event.kind == "start_failed":
            attempts.append((time.monotonic(), event))

    async with running(opener=opener, on_event=note) as workers:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await do(workers, "fine")
        refused_in = time.monotonic() - began
        await until(lambda: len(attempts) == 3)

        assert not workers.ready
        assert refused_in < 0.05
        gaps = [later - earlier for (earlier, _), (later, _) in pairwise(attempts)]
        assert gaps[0] >= 0.5
        assert gaps[1] >= 1.0
        assert workers.statistics().restarts["start"] == 3


async def test_a_failed_start_reports_its_reason():
    events = []
    async with running(opener=actions.broken_opener, on_event=events.append):
        assert any("libvips.so.42" in event.detail for event in events if event.kind == "start_failed")


async def test_workers_start_when_the_fault_is_gone(tmp_path):
    mark = tmp_path / "mark"
    async with running(opener=partial(actions.opener_when, str(mark))) as workers:
        assert not workers.ready
        mark.touch()
        async with asyncio.timeout(5):
            await workers.until_whole()

        assert workers.ready
        assert await do(workers, "fine", "up") == "up"


async def test_renders_waiting_for_a_start_that_fails_are_refused(tmp_path):
    mark = tmp_path / "mark"
    mark.touch()
    async with running(opener=partial(actions.opener_when, str(mark))) as workers:
        await workers.until_whole()
        mark.unlink()
        for key in "ab":
            with pytest.raises((Quarantined, Unavailable)):
                await do(workers, "die", key=key)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await do(workers, "fine")

        assert time.monotonic() - began < 1
