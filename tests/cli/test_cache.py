"""`imgserver cache`, with real servers and a real Redis."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from imgserver.cli import main
from imgserver.security.api_keys import digest_of, new_key
from tests.ports import free_port
from tests.redis_server import running
from tests.running_server import ServerProcess, serving, wait_until


@pytest.fixture(scope="module")
def three_tiers(tmp_path_factory) -> Iterator[ServerProcess]:
    """A server with memory, disk and Redis, after one rendition was rendered and served once more."""
    with running(tmp_path_factory.mktemp("redis")) as redis, serving(workers_count=1, redis_url=redis.url) as server:
        wait_until(lambda: server.metric("imgserver_redis_up") == 1, "it is connected")
        wait_until(lambda: server.image_health()["cache"]["subscribed"], "it is subscribed")
        for _ in range(2):
            server.ask("/img/w_42/cat.png")
        wait_until(lambda: server.image_health()["cache"]["pending_writes"] == 0, "it is written")
        yield server


def run(server: ServerProcess, *arguments: str) -> Result:
    address = f"http://127.0.0.1:{server.port}"
    return CliRunner().invoke(main, ["cache", "stats", *arguments, "--server", address], env={"COLUMNS": "100"})


def cells(result: Result) -> dict[str, list[str]]:
    """The table's rows by their labels."""
    lines = result.stdout.split("\n\n")[0].splitlines()
    rows = [[cell for cell in line.split("  ") if cell.strip()] for line in lines]
    return {label.strip(): [cell.strip() for cell in row] for label, *row in rows}


def test_each_tier_has_a_column(three_tiers):
    result = run(three_tiers)

    assert result.exit_code == 0, result.output
    table = cells(result)
    assert table["since the start"] == ["memory", "disk", "redis"]
    assert table["entries"] == ["1", "1", "–"]
    assert table["limit"] == ["64.0 MiB", "1.0 GiB", "–"]
    assert table["hits"] == ["1", "0", "0"]
    assert table["misses"] == ["1", "1", "1"]
    assert table["hit ratio"] == ["50.0%", "0.0%", "0.0%"]
    assert table["dropped writes"] == ["–", "0", "0"]


def test_the_state_of_redis_is_printed(three_tiers):
    output = run(three_tiers).stdout

    assert "redis: connected; breakers: read closed, write closed, opened 0 times; faults: 0\n" in output
    assert "purges of other servers: subscribed\n" in output


def test_the_servers_own_figures_can_be_printed(three_tiers):
    figures = json.loads(run(three_tiers, "--json").stdout)

    assert figures["tiers"]["memory"]["entries"] == 1
    assert figures["redis_client"]["connected"] is True


def test_an_absent_redis_is_printed_with_its_faults():
    away = f"redis://127.0.0.1:{free_port()}"
    with serving(workers_count=1, disk_limit_bytes=0, redis_url=away) as server:
        server.ask("/img/w_43/cat.png")
        result = run(server)

    assert cells(result)["since the start"] == ["memory", "redis"]
    assert "redis: unavailable; breakers: read open, write open" in result.stdout
    assert "faults: 0" not in result.stdout


def test_no_server_is_exit_code_1():
    result = CliRunner().invoke(main, ["cache", "stats", "--server", f"http://127.0.0.1:{free_port()}"])

    assert result.exit_code == 1
    assert "connection refused" in result.stderr


def test_a_server_that_is_not_an_imgserver_is_named(three_tiers):
    result = CliRunner().invoke(main, ["cache", "stats", "--server", f"http://127.0.0.1:{three_tiers.port}/img"])

    assert result.exit_code == 1
    assert "is it an imgserver?" in result.stderr


KEY = "a key of sixteen characters"


def swept(server: ServerProcess, *arguments: str, key: str = KEY) -> Result:
    address = f"http://127.0.0.1:{server.port}"
    return CliRunner().invoke(main, ["cache", "sweep", *arguments, "--server", address, "--key", key])


def test_a_sweep_removes_expired_records_from_every_tier(tmp_path):
    with (
        running(tmp_path) as redis,
        serving(
            workers_count=1, redis_url=redis.url, cache_ttl_seconds=1, admin_key=KEY, disk_path=tmp_path / "cache"
        ) as server,
    ):
        wait_until(lambda: server.metric("imgserver_redis_up") == 1, "it is connected")
        server.ask("/img/w_44/cat.png")
        wait_until(lambda: redis.admin.keys("imgserver:*/*"), "it is written")
        # Without a TTL: Redis would remove the expired record itself.
        for name in redis.admin.keys("imgserver:*/*"):
            redis.admin.persist(name)
        outputs: list[str] = []
        wait_until(lambda: outputs.append(swept(server).stdout) or "0 from memory" not in outputs[-1], "it has expired")
        entries = [server.metric("imgserver_cache_entries", tier=tier) for tier in ("memory", "disk")]
        names = redis.admin.keys("imgserver:*/*")
        wait_until(lambda: audited(server)[-1:] and audited(server)[-1]["disk"] == 1, "it is audited")

    assert outputs[-1] == "swept: removed 1 from memory, 1 from disk, 1 from Redis\n"
    assert (entries, names) == ([0, 0], [])


def audited(server: ServerProcess) -> list[dict]:
    events = [event for event in server.events() if event["event"] == "security.admin_action"]
    return [event for event in events if event["reason"] == "sweep"]


def test_a_sweep_names_the_tiers_that_could_not_be_searched(tmp_path):
    (tmp_path / "no-folder").write_text("")
    away = f"redis://127.0.0.1:{free_port()}"
    with serving(workers_count=1, admin_key=KEY, redis_url=away, disk_path=tmp_path / "no-folder") as server:
        result = swept(server)
        answer = json.loads(swept(server, "--json").stdout)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "swept: removed 0 from memory, 0 from disk, 0 from Redis",
        "disk could not be searched completely; its remaining records are never served",
        "Redis could not be searched completely; its remaining records are never served",
    ]
    assert (answer["complete"], answer["incomplete"]) == (False, {"disk": "failed", "redis": "failed"})


def test_a_sweep_without_the_key_is_refused_and_logged():
    with serving(workers_count=1, disk_limit_bytes=0, admin_key=KEY) as server:
        result = swept(server, key="not the key of this server")
        server.stop()
        events = [event for event in server.events() if event["event"] == "security.auth_failed"]

    assert (result.exit_code, [event["route"] for event in events]) == (1, ["sweep"])
    assert "the server does not accept this key" in result.stderr


def test_a_key_with_the_scope_metrics_opens_the_figures_to_other_machines():
    key = new_key("scraper")
    settings = {"api_keys_scraper_scopes": "metrics", "api_keys_scraper_digest": digest_of(key)}
    with serving(workers_count=1, http_metrics_public="false", **settings) as server:
        # This name of the loopback address is not one of those that count as this machine.
        address = f"http://127.1:{server.port}"
        results = [
            CliRunner().invoke(main, ["cache", "stats", "--json", "--server", address, *arguments])
            for arguments in (["--key", key], [], ["--key", "scraper.wrong"])
        ]

    assert [result.exit_code for result in results] == [0, 1, 1]
    assert "tiers" in json.loads(results[0].stdout)
    assert "need a key of scope metrics" in results[1].stderr
    assert "does not accept this key" in results[2].stderr
