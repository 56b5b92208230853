"""nginx in front of the server, as docs/caching.md configures it: a child process with a private folder."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.examples import example, fitted
from tests.ports import free_port
from tests.running_server import Answer, Peer, wait_until

MAIN = example("nginx", "proxy_cache_path")
KEY_LINE = "proxy_cache_key $request_uri;"
BACKGROUND_UPDATE = example("nginx", "proxy_cache_background_update")
SLICES = example("nginx", "slice 256k")

# The rest of a configuration file, as a distribution ships it, with every path in one folder.
FRAME = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/img.conf;
}}
"""


def binary() -> str | None:
    """Debian installs it in /usr/sbin, which is in the PATH of root only."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


needs_nginx = pytest.mark.skipif(binary() is None, reason="needs nginx (apt-get install nginx)")


@dataclass(frozen=True, slots=True)
class Nginx(Peer):
    def is_copy(self, answer: Answer) -> bool:
        return answer.headers["X-Cache"] in ("HIT", "STALE", "UPDATING", "REVALIDATED")


@contextmanager
def nginx(folder: Path, origin: Peer, *, read_timeout: str = "15s", more: Mapping[str, str] = {}) -> Iterator[Nginx]:
    """Starts it and waits until it answers. `more` replaces lines of the example by other lines of the page."""
    front = Nginx(free_port())
    changes = {
        "/var/cache/nginx/img": str(folder / "cache"),
        "127.0.0.1:8080": f"127.0.0.1:{origin.port}",
        "listen 80;": f"listen 127.0.0.1:{front.port};",
        "proxy_read_timeout 15s;": f"proxy_read_timeout {read_timeout};",
    }
    (folder / "img.conf").write_text(fitted(MAIN, {**changes, **more}))
    # A worker process of another user cannot enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(FRAME.format(folder=folder, user=user))
    command = [str(binary()), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: _is_up(front, process, folder), "nginx answers")
        yield front
    finally:
        process.terminate()
        process.wait(timeout=10)


def _is_up(front: Peer, process: "subprocess.Popen[bytes]", folder: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"nginx ended: {(folder / 'error.log').read_text()}")
    try:
        return front.ask("/nothing").status == 404
    except OSError:
        return False
