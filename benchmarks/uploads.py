"""What taking a photograph in costs beside reading it from the folder: the same plan, the same picture."""

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
    """Interleaved turns; the cache is off, and the quality differs by turn, so that no folder render is a hit."""
    body = form((SAMPLES / PHOTO).read_bytes())
    uploads, renders = [], []
    with imgserver(workers_count=1, cache_memory_bytes=0) as server:
        _upload(server, body, 60)
        _render(server, 60)
        for turn in range(TURNS):
            qualities = range(61 + turn * PER_TURN, 61 + (turn + 1) * PER_TURN)
            uploads.append(_cpu(server, lambda quality: _upload(server, body, quality), qualities))
            renders.append(_cpu(server, lambda quality: _render(server, quality), qualities))
    ratios = [ours / plain for ours, plain in zip(uploads, renders, strict=True)]
    milliseconds = [statistics.median(turns) / PER_TURN * 1000 for turns in (uploads, renders)]
    raw = {"uploads": uploads, "renders": renders}
    return [
        Row(
            "an upload of 12 MP: CPU of the process tree against the same from the folder",
            median_spread(ratios),
            "<= 1.15",
            statistics.median(ratios) <= 1.15,
            raw,
        ),
        Row("CPU per picture of the two", f"{milliseconds[0]:.0f} / {milliseconds[1]:.0f} ms"),
    ]


def form(data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{PHOTO}"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def _cpu(server: Server, ask: Callable[[int], None], qualities: Iterable[int]) -> float:
    begun = server.cpu_seconds()
    for quality in qualities:
        ask(quality)
    # The kernel tells CPU time in ticks of 10 ms, and what is left to do behind an answer belongs to it.
    time.sleep(0.05)
    return server.cpu_seconds() - begun


def _upload(server: Server, body: bytes, quality: int) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    url = f"{server.url}/api/image/optimize?q={quality}"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        assert answer.read()


def _render(server: Server, quality: int) -> None:
    with urllib.request.urlopen(f"{server.url}/img/q_{quality}/{PHOTO}", timeout=60) as answer:
        assert answer.read()
