"""A real server process for tests: started as users start it, requested over sockets, ended by its process id."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.polling import wait_until
from tests.ports import free_port
from tests.request_accounting import balance
from tests.secret_leaks import refuse_leaks

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
# Small files that were once served wrongly; the README there has the right answers.
CASES = ROOT / "tests" / "cases"
START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cache_status(self) -> str:
        """Cache-Status without its `ttl`, which changes from second to second."""
        return re.sub(r"; ttl=-?\d+", "", self.headers["Cache-Status"])


@dataclass(frozen=True, slots=True)
class Peer:
    """An HTTP server on a port of this machine: imgserver, or a cache in front of it."""

    port: int

    def ask(
        self,
        target: str,
        method: str = "GET",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Answer:
        """Sends one request on a new connection. The target is sent unchanged, byte by byte. `headers` as pairs may
        contain several lines of one name; a Host among them replaces that of the connection."""
        lines = list(headers.items() if isinstance(headers, Mapping) else headers)
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            skip_host = any(name.lower() == "host" for name, _ in lines)
            connection.putrequest(method, target, skip_host=skip_host, skip_accept_encoding=True)
            for name, value in lines:
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read(), time.monotonic() - begun)
        finally:
            connection.close()

    def send(self, data: bytes, *, patience: float = 5.0) -> bytes:
        """Sends raw bytes. Returns what comes back until the server closes, or sends nothing for `patience` seconds."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience) as connection:
            received = b""
            try:
                connection.sendall(data)
                while chunk := connection.recv(65536):
                    received += chunk
            except (TimeoutError, ConnectionError):
                return received
            return received


@dataclass(frozen=True, slots=True)
class ServerProcess(Peer):
    process: subprocess.Popen[bytes]
    log: Path

    def post(self, target: str, body: object, *, key: str | None = None) -> Answer:
        """JSON, with `key` as Bearer token."""
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return self.ask(target, "POST", headers, data)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one series of /metrics; 0 for label values that have not occurred yet. Raises AssertionError for
        a metric or a set of label names that the server does not have."""
        return value_of(self.ask("/metrics").body.decode(), name, labels)

    def image_health(self) -> Any:
        return self.ask("/api/image/health").json()

    def workers(self) -> list[psutil.Process]:
        """The running worker processes, including the spare."""
        return [one for one in psutil.Process(self.process.pid).children(recursive=True) if is_worker(one)]

    def events(self) -> list[dict[str, Any]]:
        # The text after the last line break is still being written.
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.split("\n") if line.startswith("{")]

    def reload(self) -> None:
        """Sends SIGHUP and waits until the reload is logged."""
        before = self._reloads()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self._reloads() > before, "the reload is logged")

    def _reloads(self) -> int:
        return sum(event["event"] == "server.reloaded" for event in self.events())

    def stop(self, seconds: float = 30) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)


def value_of(page: str, name: str, labels: Mapping[str, str]) -> float:
    """As `ServerProcess.metric`, of a page in the text format of Prometheus."""
    found = [(_LABEL.findall(series[2] or ""), series[3]) for series in _SERIES.finditer(page) if series[1] == name]
    types = dict(_TYPE.findall(page))
    base = re.sub(r"_(bucket|count|sum)$", "", name)
    assert name in types or types.get(base) == "histogram", f"/metrics has no {name}"
    names = {tuple(sorted(key for key, _ in pairs)) for pairs, _ in found}
    assert not names or tuple(sorted(labels)) in names, f"{name} has the labels {names}, not {sorted(labels)}"
    return next((float(value) for pairs, value in found if dict(pairs) == labels), 0.0)


_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
_SERIES = re.compile(r"^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def is_worker(process: psutil.Process) -> bool:
    """True for a spawned worker, false for the resource tracker of multiprocessing."""
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False


@contextmanager
def serving(
    place: Path | str = SAMPLES,
    *,
    variables: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
    **settings: object,
) -> Iterator[ServerProcess]:
    """Runs `imgserver serve` on a free port and waits until it is ready. `settings`: such as `workers_count=2`.

    `place` is a folder or a URL such as s3://bucket. `variables` are further environment variables.

    `under` is a command that executes the server, such as `prlimit --nofile=64`. Whatever the test did, a server that
    still listens at the end must account for every request, and its log must not contain a secret.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*under, sys.executable, "-m", "imgserver", "serve", str(place), "--port", str(port)],
                env={**environment(), "XDG_CACHE_HOME": scratch, **named(settings), **(variables or {})},
                stdout=subprocess.DEVNULL,
                stderr=stream,
                cwd=ROOT,
            )
        server = ServerProcess(port, process, log)
        try:
            wait_until(lambda: _is_up(server), "the server answers", seconds=START_SECONDS)
            yield server
            if is_listening(server) and (faults := balance(server.ask("/metrics").body.decode())):
                raise AssertionError(f"requests are not accounted for: {faults}")
        finally:
            end(server)
        refuse_leaks(log.read_text("utf-8", "replace"), place, {**settings, **(variables or {})})


def is_listening(server: ServerProcess) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def named(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"IMGSERVER_{name.upper()}": str(value) for name, value in settings.items()}


def end(server: ServerProcess) -> None:
    try:
        server.stop()
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
        raise


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("IMGSERVER_") and name != "PORT"}


def _is_up(server: ServerProcess) -> bool:
    if server.process.poll() is not None:
        raise AssertionError(f"the server ended with {server.process.returncode}: {server.log.read_text()}")
    try:
        return server.ask("/readyz").status in (200, 503)
    except OSError:
        return False
