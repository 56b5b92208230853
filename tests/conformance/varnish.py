"""Varnish in front of the server, as docs/caching.md configures it: a child process with a private folder."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.examples import example, fitted
from tests.ports import free_port
from tests.running_server import Answer, Peer, wait_until

VCL = example("vcl", "vcl_recv")


def binary(name: str = "varnishd") -> str | None:
    """Debian installs it in /usr/sbin, which is in the PATH of root only."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


needs_varnish = pytest.mark.skipif(binary() is None, reason="needs varnishd (apt-get install varnish)")


@dataclass(frozen=True, slots=True)
class Varnish(Peer):
    folder: Path

    def is_copy(self, answer: Answer) -> bool:
        """X-Varnish names the request, and on a hit also the one that fetched the copy."""
        return len(str(answer.headers["X-Varnish"]).split()) == 2

    def counter(self, name: str) -> int:
        command = [str(binary("varnishstat")), "-n", str(self.folder), "-1", "-f", name]
        line = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
        return int(line.split()[1])


@contextmanager
def varnish(folder: Path, origin: Peer) -> Iterator[Varnish]:
    """Starts it and waits until it answers."""
    front = Varnish(free_port(), folder / "varnish")
    text = fitted(VCL, {'"8080"': f'"{origin.port}"'})
    (folder / "img.vcl").write_text(text)
    command = [str(binary()), "-F", "-n", str(front.folder), "-a", f"127.0.0.1:{front.port}"]
    # No jail: it would change to a user who cannot enter the folder. One thread pool is enough for this load.
    command += ["-j", "none", "-T", "none", "-f", str(folder / "img.vcl"), "-s", "default,32m", "-p", "thread_pools=1"]
    with (folder / "varnish.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: _is_up(front, process, folder), "Varnish answers", seconds=30)
        yield front
    finally:
        process.terminate()
        process.wait(timeout=10)


def _is_up(front: Peer, process: "subprocess.Popen[bytes]", folder: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"varnishd ended: {(folder / 'varnish.log').read_text()}")
    try:
        return front.ask("/livez").status == 200
    except OSError:
        return False
