"""Faults of workers and originals, seen from outside the server. Processes are killed and stopped by their ids."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.running_server import SAMPLES, ServerProcess, serving, wait_until

SLOW = "/img/w_3000,f_avif,q_60/{}/sunset.jpg"


@pytest.fixture
def own() -> ServerProcess:
    """A server for one test, which may damage it."""
    with serving(workers_count=2, queue_deadline_seconds=5) as running:
        yield running


def slow(number: int) -> str:
    """A picture that takes a worker at least a second. Each number gives another cache key."""
    return f"/img/c_fit,w_{3000 + number},f_png/dandelion.jpg"


def in_thread(server: ServerProcess, target: str) -> tuple[threading.Thread, list[int]]:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(server.ask(target).status))
    thread.start()
    return thread, seen


def busy(server: ServerProcess) -> int:
    return int(server.image_health()["workers"]["busy"])


def is_complete(server: ServerProcess) -> bool:
    facts = server.image_health()["workers"]
    return facts["idle"] + facts["busy"] == 2 and facts["spare"] == 1 and facts["starting"] == 0


def test_a_worker_killed_during_a_render_costs_at_most_that_request(own):
    pids = {worker.pid for worker in own.workers()}
    thread, seen = in_thread(own, slow(1))
    wait_until(lambda: busy(own) == 1, "a worker is busy")
    working = max(own.workers(), key=lambda one: sum(one.cpu_times()[:2]))
    working.kill()

    assert own.ask("/img/w_90/cat.png").status == 200
    wait_until(lambda: is_complete(own), "the pool is complete again", seconds=3)
    thread.join()
    assert seen in ([200], [503])
    assert {worker.pid for worker in own.workers()} != pids
    assert own.metric("imgserver_worker_restarts_total", reason="killed") == 1


def test_all_workers_are_replaced_each_time_they_are_killed(own):
    for number in range(10):
        for worker in own.workers():
            worker.kill()
        wait_until(lambda: own.ask(f"/img/w_{100 + number}/cat.png").status == 200, "pictures again", seconds=5)  # noqa: B023
    wait_until(lambda: is_complete(own), "the pool is complete again", seconds=5)

    assert own.ask("/readyz").status == 200


def test_a_stopped_worker_is_killed_at_the_deadline_and_only_its_request_fails(own):
    for worker in own.workers():
        worker.suspend()
    begun = time.monotonic()
    answer = own.ask("/img/w_91/cat.png")

    assert answer.status == 504
    assert answer.headers["Cache-Control"] == "no-store"
    assert 4.7 <= time.monotonic() - begun <= 6.0
    wait_until(lambda: own.ask("/img/w_92/cat.png").status == 200, "pictures again", seconds=12)


def test_an_original_that_crashes_two_workers_is_quarantined(own):
    """Crashes every worker that renders it; the server must not lose the whole pool to it."""
    target = slow(50)
    stop = threading.Event()
    killer = threading.Thread(target=_crash_busy_workers, args=(own, stop))
    killer.start()
    try:
        statuses = [own.ask(target).status for _ in range(6)]
    finally:
        stop.set()
        killer.join()

    assert statuses[-1] == 422
    assert set(statuses) <= {503, 422}
    assert own.ask("/img/w_93/cat.png").status == 200
    assert own.metric("imgserver_quarantined_keys") == 1


def _crash_busy_workers(server: ServerProcess, stop: threading.Event) -> None:
    """A worker is busy when its CPU time has grown by 0.1 s."""
    seen: dict[int, float] = {}
    while not stop.is_set():
        for worker in server.workers():
            try:
                used = sum(worker.cpu_times()[:2])
                if used - seen.setdefault(worker.pid, used) > 0.1:
                    worker.send_signal(signal.SIGSEGV)
            except psutil.NoSuchProcess:
                continue
        stop.wait(0.02)


def test_a_server_whose_workers_cannot_start_is_not_ready_and_refuses_quickly(tmp_path):
    (tmp_path / "pyvips.py").write_text("raise ImportError('no libvips here')")
    with serving(workers_count=1, variables={"PYTHONPATH": str(tmp_path)}) as server:
        assert server.ask("/readyz").status == 503
        assert server.ask("/livez").status == 200
        answer = server.ask("/img/w_90/cat.png")

        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.seconds < 1
        wait_until(lambda: "worker.start_failed" in event_names(server), "the failure is logged")
        assert event_names(server).count("worker.start_failed") <= 4


def event_names(server: ServerProcess) -> list[str]:
    return [event["event"] for event in server.events()]


@pytest.mark.parametrize("state", ["idle", "busy", "stopped"])
def test_no_worker_outlives_a_killed_server(state):
    with serving(workers_count=2) as server:
        if state == "busy":
            in_thread_ignoring_errors(server, slow(70))
            wait_until(lambda: busy(server) == 1, "a worker is busy")
        workers = server.workers()
        if state == "stopped":
            for worker in workers:
                worker.suspend()
        server.process.kill()
        server.process.wait()

        assert len(workers) == 3
        wait_until(lambda: not any(is_alive(worker) for worker in workers), "all workers are gone", seconds=1)


def in_thread_ignoring_errors(server: ServerProcess, target: str) -> None:
    def ask() -> None:
        try:
            server.ask(target)
        except OSError:
            return

    threading.Thread(target=ask, daemon=True).start()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_sigterm_finishes_accepted_requests_and_exits_with_0():
    with serving(workers_count=2) as server:
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(server.ask, slow(80 + number)) for number in range(4)]
            wait_until(lambda: busy(server) == 2, "both workers are busy")
            wait_until(lambda: server.image_health()["queue"]["waiting"] == 2, "the others wait")
            server.process.send_signal(signal.SIGTERM)
            answers = [one.result() for one in asked]
        code = server.process.wait(timeout=30)

    assert {answer.status for answer in answers} == {200}
    assert code == 0


def test_a_full_queue_refuses_quickly_and_health_checks_never_queue():
    with serving(workers_count=1, queue_max_waiting=2, queue_deadline_seconds=20) as server:
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(server.ask, slow(100 + number)) for number in range(10)]
            wait_until(lambda: busy(server) == 1, "the worker is busy")
            health = [server.ask(path).seconds for path in ("/livez", "/api/health", "/api/image/health", "/metrics")]
            answers = [one.result() for one in asked]
        refused = [answer for answer in answers if answer.status == 503]

    assert max(health) < 0.5
    assert len(refused) >= 6
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert all(answer.json()["reason"] in ("full", "predicted_wait") for answer in refused)
    assert {answer.status for answer in answers} == {200, 503}


def test_a_queued_render_is_canceled_when_its_client_disconnects(own):
    """Both workers are busy, so the render of the third client has not begun."""
    threads = [in_thread(own, slow(200 + number))[0] for number in range(2)]
    wait_until(lambda: busy(own) == 2, "both workers are busy")
    command = [sys.executable, "-c", f"import urllib.request as u; u.urlopen('http://127.0.0.1:{own.port}{slow(210)}')"]
    client = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: own.image_health()["queue"]["waiting"] == 1, "the third waits")
    client.kill()
    client.wait()

    wait_until(lambda: own.image_health()["queue"]["waiting"] == 0, "its place in the queue is free again", seconds=2)
    for thread in threads:
        thread.join()
    assert own.metric("imgserver_lookups_total", outcome="client_disconnected") == 1
    assert own.image_health()["workers"]["renders"] == 2


def test_file_descriptors_are_closed_after_many_errors(own):
    process = psutil.Process(own.process.pid)
    own.ask("/img/w_95/cat.png")
    before = process.num_fds()
    targets = ["/img/missing.jpg", "/img/w_96/cat.png", "/img/x_/a", "/img/ATTRIBUTION.md", "/img/%2e%2e/x"] * 60
    with ThreadPoolExecutor(16) as pool:
        statuses = {answer.status for answer in pool.map(own.ask, targets)}

    assert statuses == {200, 400, 404, 415}
    wait_until(lambda: process.num_fds() <= before + 2, "descriptors are closed")


def test_a_replaced_truncated_or_deleted_original_is_noticed(tmp_path):
    target = tmp_path / "a.jpg"
    shutil.copy(SAMPLES / "dogs.jpg", target)
    with serving(tmp_path, workers_count=1) as server:
        first = server.ask("/img/w_200/a.jpg")
        replace(target, (SAMPLES / "autumn.jpg").read_bytes())
        wait_until(
            lambda: server.ask("/img/w_200/a.jpg").headers["ETag"] != first.headers["ETag"],
            "the new picture",
            seconds=3,
        )
        replace(target, (SAMPLES / "autumn.jpg").read_bytes()[:300_000])
        wait_until(lambda: server.ask("/img/w_201/a.jpg").status == 422, "the truncated original is refused", seconds=6)
        # It is young, and may soon be whole: what was rendered before is served until then.
        assert server.ask("/img/w_200/a.jpg").status == 200
        target.unlink()
        wait_until(lambda: server.ask("/img/w_200/a.jpg").status == 404, "the deleted original is not found", seconds=3)


def replace(path: Path, data: bytes) -> None:
    """Replaces the file atomically, by a rename."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)
