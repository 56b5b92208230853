"""`imgserver health` tells the state of a server by its exit code, and loads no framework."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner

from imgserver.cli import main


class HealthHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"/api/health": 200, "/unhealthy/api/health": 503}.get(self.path, 404)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b'{"status": "fine"}')

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), HealthHandler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_healthy_server_is_exit_code_0(url: str) -> None:
    result = CliRunner().invoke(main, ["health", "--server", url])

    assert (result.exit_code, result.stdout) == (0, f"{url}: healthy\n")


def test_the_response_of_the_server_can_be_printed(url: str) -> None:
    assert CliRunner().invoke(main, ["health", "--json", "--server", url]).stdout == '{"status": "fine"}\n'


def test_an_unhealthy_server_is_exit_code_1(url: str) -> None:
    result = CliRunner().invoke(main, ["health", "--server", f"{url}/unhealthy/"])

    assert (result.exit_code, result.stderr) == (1, f"Error: {url}/unhealthy/: unhealthy; /api/health answered 503\n")


def test_no_server_is_exit_code_1_and_one_sentence() -> None:
    result = CliRunner().invoke(main, ["health", "--server", "http://127.0.0.1:1", "--timeout", "1"])

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: http://127.0.0.1:1: connection refused")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "http://127.0.0.1:http"])
def test_a_malformed_url_is_exit_code_2(url: str) -> None:
    assert CliRunner().invoke(main, ["health", "--server", url]).exit_code == 2


def test_health_loads_no_framework() -> None:
    """It runs every few seconds in a container."""
    code = (
        "import sys\nfrom imgserver.cli import main\n"
        "main(['health', '--server', 'http://127.0.0.1:1', '--timeout', '1'], standalone_mode=False)"
    )
    probe = f"try:\n    {code.replace(chr(10), chr(10) + '    ')}\nexcept Exception:\n    print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()

    assert "http.client" in loaded
    heavy = {"aiohttp", "asyncio", "pydantic", "rich", "structlog", "pyvips", "cffi", "multiprocessing", "numpy", "PIL"}
    assert heavy & set(loaded) == set()
