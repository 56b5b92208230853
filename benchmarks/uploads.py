"""The CPU cost of an upload against the cost of the same render of an original in the folder."""

import statistics
import time
import urllib.request
from collections.abc import Callable, Iterable

from benchmarks.harness import SAMPLES, Row, Server, imgserver, median_spread

# 12 MP.
PHOTO = "sunset.jpg"
TURNS = 9
PER_TURN = 3
BOUNDARY = "a-boundary"


def measure_uploads() -> list[Row]:
    """Alternates uploads and renders. The cache is off and every request has another quality, so that no render is a
    hit."""
    body = form((SAMPLES / PHOTO).read_bytes())
    uploads, renders = [], []
    with imgserver(workers_count=1, cache_memory_bytes=0) as server:
        _upload(server, body, 60)
        _render(server, 60)
        for turn in range(TURNS):
            qualities = range(61 + turn * PER_TURN, 61 + (turn + 1) * PER_TURN)
            uploads.append(_cpu_seconds(server, lambda quality: _upload(server, body, quality), qualities))
            renders.append(_cpu_seconds(server, lambda quality: _render(server, quality), qualities))
    ratios = [ours / plain for ours, plain in zip(uploads, renders, strict=True)]
    milliseconds = [statistics.median(turns) / PER_TURN * 1000 for turns in (uploads, renders)]
    raw = {"uploads": uploads, "renders": renders}
    return [
        Row(
            "an upload of 12 MP: CPU of the process tree against a render from the folder",
            median_spread(ratios),
            "<= 1.15",
            statistics.median(ratios) <= 1.15,
            raw,
        ),
        Row("CPU per image: upload / render from the folder", f"{milliseconds[0]:.0f} / {milliseconds[1]:.0f} ms"),
    ]


def form(data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{PHOTO}"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def _cpu_seconds(server: Server, send: Callable[[int], None], qualities: Iterable[int]) -> float:
    before = server.cpu_seconds()
    for quality in qualities:
        send(quality)
    # The kernel counts CPU time in ticks of 10 ms. Background work after the response belongs to the request.
    time.sleep(0.05)
    return server.cpu_seconds() - before


def _upload(server: Server, body: bytes, quality: int) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    url = f"{server.url}/api/image/optimize?q={quality}"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        assert answer.read()


def _render(server: Server, quality: int) -> None:
    with urllib.request.urlopen(f"{server.url}/img/q_{quality}/{PHOTO}", timeout=60) as answer:
        assert answer.read()
