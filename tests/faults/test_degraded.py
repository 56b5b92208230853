"""A real server with more to do than it can: cheaper pictures, which nobody keeps for long, and then the right ones."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.running_server import Answer, ServerProcess, serving, wait_until

pytestmark = pytest.mark.alone

BROWSER = {"Accept": "image/avif,image/webp,*/*"}


def ask(server: ServerProcess, number: int) -> tuple[str, Answer]:
    target = f"/img/w_{1400 + number},f_auto,q_70/creek.jpg?v=1"
    return target, server.ask(target, headers=BROWSER)


def is_degraded(answer: Answer) -> bool:
    return "detail=degraded" in (answer.headers["Cache-Status"] or "")


def test_degraded_answers_are_short_lived_and_give_way_to_the_right_ones():
    with serving(workers_count=1, disk_limit_bytes=0, queue_deadline_seconds=8) as server:
        with ThreadPoolExecutor(24) as pool:
            asked = list(pool.map(lambda number: ask(server, number), range(48)))
        cheaper = [(target, answer) for target, answer in asked if answer.status == 200 and is_degraded(answer)]
        assert cheaper, [answer.headers["Cache-Status"] for _, answer in asked]
        target, degraded = cheaper[-1]
        wait_until(lambda: server.metric("imgserver_queue_jobs", queue="render", state="running") == 0, "it is calm")
        after = server.ask(target, headers=BROWSER)
        counted = sum(server.metric("imgserver_degraded_total", step=step) for step in ("effort", "format", "plain"))

    assert {answer.status for _, answer in asked} <= {200, 503}
    for _, answer in cheaper:
        assert int(re.search(r"max-age=(\d+)", answer.headers["Cache-Control"])[1]) <= 60
        assert "immutable" not in answer.headers["Cache-Control"]
        assert re.search(r"detail=degraded/(effort|format|plain)$", answer.headers["Cache-Status"])
        assert answer.headers["Vary"] == "Accept"
    assert counted >= len(cheaper)
    assert not is_degraded(after)
    assert "immutable" in after.headers["Cache-Control"]
    assert after.headers["Content-Type"] == "image/avif"
    assert after.headers["ETag"] != degraded.headers["ETag"]


def test_nothing_is_left_out_where_that_is_switched_off():
    settings = {"workers_count": 1, "disk_limit_bytes": 0, "queue_deadline_seconds": 8, "queue_degrade": "false"}
    with serving(**settings) as server, ThreadPoolExecutor(12) as pool:
        answers = [answer for _, answer in pool.map(lambda number: ask(server, number), range(24))]

    assert not any(is_degraded(answer) for answer in answers if answer.status == 200)
