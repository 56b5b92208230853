"""A real server under overload: it degrades renditions, whose answers are cached shortly, and then serves full ones."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.running_server import Answer, ServerProcess, serving, wait_until

pytestmark = pytest.mark.alone

BROWSER = {"Accept": "image/avif,image/webp,*/*"}


def get(server: ServerProcess, number: int) -> tuple[str, Answer]:
    target = f"/img/w_{1400 + number},f_auto,q_70/creek.jpg?v=1"
    return target, server.ask(target, headers=BROWSER)


def is_degraded(answer: Answer) -> bool:
    return "detail=degraded" in (answer.headers["Cache-Status"] or "")


def test_degraded_answers_are_short_lived_and_replaced_by_full_ones():
    with serving(workers_count=1, disk_limit_bytes=0, queue_deadline_seconds=8) as server:
        with ThreadPoolExecutor(24) as pool:
            responses = list(pool.map(lambda number: get(server, number), range(48)))
        degraded_responses = [
            (target, answer) for target, answer in responses if answer.status == 200 and is_degraded(answer)
        ]
        assert degraded_responses, [answer.headers["Cache-Status"] for _, answer in responses]
        target, degraded = degraded_responses[-1]
        wait_until(
            lambda: server.metric("imgserver_queue_jobs", queue="render", state="running") == 0, "no render runs"
        )
        after = server.ask(target, headers=BROWSER)
        degraded_total = sum(
            server.metric("imgserver_degraded_total", step=step) for step in ("effort", "format", "plain")
        )

    assert {answer.status for _, answer in responses} <= {200, 503}
    for _, answer in degraded_responses:
        assert int(re.search(r"max-age=(\d+)", answer.headers["Cache-Control"])[1]) <= 60
        assert "immutable" not in answer.headers["Cache-Control"]
        assert re.search(r"detail=degraded/(effort|format|plain)$", answer.headers["Cache-Status"])
        assert answer.headers["Vary"] == "Accept"
    assert degraded_total >= len(degraded_responses)
    assert not is_degraded(after)
    assert int(re.search(r"max-age=(\d+)", after.headers["Cache-Control"])[1]) > 60
    assert after.headers["Content-Type"] == "image/avif"
    assert after.headers["ETag"] != degraded.headers["ETag"]


def test_nothing_is_degraded_if_degradation_is_switched_off():
    settings = {"workers_count": 1, "disk_limit_bytes": 0, "queue_deadline_seconds": 8, "queue_degrade": "false"}
    with serving(**settings) as server, ThreadPoolExecutor(12) as pool:
        answers = [answer for _, answer in pool.map(lambda number: get(server, number), range(24))]

    assert not any(is_degraded(answer) for answer in answers if answer.status == 200)
