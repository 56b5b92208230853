"""Cache figures on the command line, against real servers and a real Redis."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from imgserver.cli import main
from tests.redis_server import running
from tests.serving import ServerProcess, await_that, free_port, serving


@pytest.fixture(scope="module")
def three_tiers(tmp_path_factory) -> Iterator[ServerProcess]:
    """Memory, disk and Redis, after one picture was made and answered once more."""
    with running(tmp_path_factory.mktemp("redis")) as redis, serving(workers_count=1, redis_url=redis.url) as server:
        await_that(lambda: server.metric("imgserver_redis_up") == 1, "it is connected")
        await_that(lambda: server.image_health()["cache"]["listening"], "it listens")
        for _ in range(2):
            server.ask("/img/w_42/cat.png")
        await_that(lambda: server.image_health()["cache"]["writes"] == 0, "it is written")
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


def test_the_state_of_redis_is_told_in_a_sentence(three_tiers):
    told = run(three_tiers).stdout

    assert "redis: connected; breakers: read closed, write closed, opened 0 times; faults: 0\n" in told
    assert "purges of other servers: heard at once\n" in told


def test_the_servers_own_figures_can_be_printed(three_tiers):
    figures = json.loads(run(three_tiers, "--json").stdout)

    assert figures["memory"]["entries"] == 1
    assert figures["link"]["connected"] is True


def test_an_absent_redis_is_told_with_its_faults():
    away = f"redis://127.0.0.1:{free_port()}"
    with serving(workers_count=1, disk_limit_bytes=0, redis_url=away) as server:
        server.ask("/img/w_43/cat.png")
        result = run(server)

    assert cells(result)["since the start"] == ["memory", "redis"]
    assert "redis: away; breakers: read open, write open" in result.stdout
    assert "faults: 0" not in result.stdout


def test_no_server_is_exit_code_1():
    result = CliRunner().invoke(main, ["cache", "stats", "--server", f"http://127.0.0.1:{free_port()}"])

    assert result.exit_code == 1
    assert "nobody listens there" in result.stderr


def test_what_is_no_imgserver_is_told(three_tiers):
    result = CliRunner().invoke(main, ["cache", "stats", "--server", f"http://127.0.0.1:{three_tiers.port}/img"])

    assert result.exit_code == 1
    assert "is it an imgserver?" in result.stderr
