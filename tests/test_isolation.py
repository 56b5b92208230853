"""`alone` must keep others out, or a test that measures time would be measured beside another."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.isolation import holding
from tests.polling import wait_until

HOLDER = """
import sys
from pathlib import Path
from tests.isolation import holding

with holding(Path(sys.argv[1]), alone=sys.argv[2] == "alone"):
    print("in", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(folder), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def is_waiting_for_a_lock(process: subprocess.Popen[str]) -> bool:
    return f" {process.pid} " in "".join(line for line in Path("/proc/locks").read_text().splitlines() if "->" in line)


def test_ordinary_tests_run_side_by_side(tmp_path):
    with holding(tmp_path, alone=False), holder(tmp_path, "shared") as other:
        assert other.stdout.readline() == "in\n"
        other.stdin.close()


def test_a_test_that_runs_alone_waits_for_others_and_goes_before_later_ones(tmp_path):
    with holder(tmp_path, "shared") as first:
        assert first.stdout.readline() == "in\n"
        with holder(tmp_path, "alone") as alone:
            wait_until(lambda: is_waiting_for_a_lock(alone), "it waits for the first")
            with holder(tmp_path, "shared") as late:
                wait_until(lambda: is_waiting_for_a_lock(late), "the late one waits for its turn")
                first.stdin.close()
                assert alone.stdout.readline() == "in\n"
                wait_until(lambda: is_waiting_for_a_lock(late), "the late one waits for the one that runs alone")
                alone.stdin.close()
                assert late.stdout.readline() == "in\n"
                late.stdin.close()
