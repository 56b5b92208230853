"""`imgserver serve` as a process: it prints URLs that work, and Ctrl-C stops it."""

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import urllib.request
from collections.abc import Iterator
from functools import partial

import pytest

from tests.running_server import SAMPLES, serving


def started(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "imgserver", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    process = started(str(SAMPLES), "--port", "0", "--workers", "1", IMGSERVER_LOG_LEVEL="error")
    yield process
    process.kill()
    process.communicate()


def printed_urls(process: subprocess.Popen[str]) -> list[str]:
    """Reads until the last line of the banner."""
    assert process.stdout
    urls: list[str] = []
    for line in process.stdout:
        urls += re.findall(r"  (http://\S+)$", line.rstrip())
        if urls and urls[-1].endswith("/api/health"):
            break
    return urls


def test_the_printed_urls_work_and_ctrl_c_stops_the_server(server: subprocess.Popen[str]) -> None:
    urls = printed_urls(server)

    kinds = []
    for url in urls:
        with urllib.request.urlopen(url, timeout=20) as answer:
            kinds.append(answer.headers.get_content_type())
            assert len(answer.read()) > 50
    assert {"text/html", "image/png", "image/jpeg", "application/json"} <= set(kinds)

    health = subprocess.run(
        [sys.executable, "-m", "imgserver", "health", "--server", urls[-1].removesuffix("/api/health")], check=False
    )
    assert health.returncode == 0

    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=20)
    assert (server.returncode, errors) == (0, "")


def test_the_server_stops_when_its_terminal_is_closed() -> None:
    """SIGHUP reloads; but without a terminal nobody could stop the server with Ctrl-C."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "imgserver", "serve", str(SAMPLES), "--port", "0", "--workers", "1"],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=partial(_take_terminal, slave),
    )
    try:
        os.close(slave)
        url = printed_urls(process)[-1]
        process.send_signal(signal.SIGHUP)
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert answer.status == 200
        os.close(master)

        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate()


def _take_terminal(descriptor: int) -> None:
    os.setsid()
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


def test_a_port_in_use_is_an_error_of_one_sentence(server: subprocess.Popen[str]) -> None:
    port = re.findall(r":(\d+)/", printed_urls(server)[0])[0]

    second = started(str(SAMPLES), "--port", port)
    output, errors = second.communicate(timeout=20)

    assert (second.returncode, output) == (1, "")
    assert errors.startswith(f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use")
    assert errors.count("\n") == 1


def test_the_variables_of_a_kubernetes_service_are_ignored_with_one_line_in_the_log() -> None:
    variables = {"IMGSERVER_PORT": "tcp://10.0.0.1:8080", "IMGSERVER_SERVICE_HOST": "10.0.0.1"}
    with serving(workers_count=1, variables={**variables, "IMGSERVER_LOG_LEVEL": "INFO"}) as server:
        found = [event for event in server.events() if event["event"] == "settings.variables_ignored"]

    assert [event["names"] for event in found] == [sorted(variables)]
