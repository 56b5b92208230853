"""`imgserver purge`, against a real server."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from imgserver.cache.cache_tags import tag_group
from imgserver.cli import main
from tests.ports import free_port
from tests.running_server import ServerProcess, serving

KEY = "a key of sixteen characters, ü too"
PICTURES = ("/img/w_40/cat.png", "/img/w_41/cat.png", "/img/w_40/coffee.png")


@pytest.fixture(scope="module")
def guarded() -> Iterator[ServerProcess]:
    """A server with an admin key."""
    with serving(workers_count=1, disk_limit_bytes=0, admin_key=KEY, tags_cats="cat*") as running:
        yield running


def run(server: ServerProcess, *arguments: str, key: str | None = KEY) -> Result:
    variables = {"IMGSERVER_ADMIN_KEY": key}
    return CliRunner().invoke(main, ["purge", *arguments, "--server", address(server)], env=variables)


def address(server: ServerProcess) -> str:
    return f"http://127.0.0.1:{server.port}"


def cached(server: ServerProcess) -> list[str]:
    """The targets that are served from the cache."""
    return [target for target in PICTURES if server.ask(target).cache_status == "imgserver; hit"]


@pytest.mark.parametrize(
    ("arguments", "sentence", "remaining"),
    [
        (["/img/w_40/cat.png"], "purged url /img/w_40/cat.png: removed 1", PICTURES[1:]),
        (["https://cdn.example/img/w_40/cat.png"], "purged url /img/w_40/cat.png: removed 1", PICTURES[1:]),
        (["--source", "cat.png"], "purged source cat.png: removed 2", PICTURES[2:]),
        (["--tag", "cats"], "purged tag cats: removed 2", PICTURES[2:]),
        (["--group", tag_group("cats")], f"purged group {tag_group('cats')}: removed 2", PICTURES[2:]),
        (["--prefix", ""], "purged prefix: removed 3", ()),
        (["--prefix", "elsewhere"], "purged prefix elsewhere: removed 0", PICTURES),
        (["--all"], "purged everything: removed 3", ()),
    ],
)
def test_a_purge_removes_what_it_names_and_nothing_else(guarded, arguments, sentence, remaining):
    for target in PICTURES:
        guarded.ask(target)

    result = run(guarded, *arguments)

    assert (result.exit_code, result.stdout) == (0, f"{sentence} from memory\n")
    assert cached(guarded) == list(remaining)


def test_the_response_of_the_server_can_be_printed(guarded):
    guarded.ask(PICTURES[0])

    answer = json.loads(run(guarded, "--source", "cat.png", "--json").stdout)

    assert (answer["propagated"], answer["complete"]) == (True, True)
    assert answer["removed"]["memory"] >= 1


def test_the_key_may_be_an_option(guarded):
    assert run(guarded, "--source", "cat.png", "--key", KEY, key=None).exit_code == 0


def test_a_wrong_key_is_refused_and_nothing_is_purged(guarded):
    guarded.ask(PICTURES[0])

    result = run(guarded, "--all", key="not the key of this server")

    assert result.exit_code == 1
    assert (
        result.stderr
        == f"Error: {address(guarded)}: the server does not accept this key (admin.key, or an API key of scope purge)\n"
    )
    assert PICTURES[0] in cached(guarded)


def test_a_server_without_a_key_has_no_admin_api(server):
    result = run(server, "--all")

    assert result.exit_code == 1
    assert "no admin API; the server has no key for it" in result.stderr


def test_a_purge_without_redis_is_done_and_reported_as_not_propagated():
    away = f"redis://127.0.0.1:{free_port()}"
    with serving(workers_count=1, disk_limit_bytes=0, redis_url=away, admin_key=KEY) as server:
        server.ask(PICTURES[0])
        result = run(server, "--all")
        remaining = cached(server)

    first, *others = result.stdout.splitlines()
    assert (result.exit_code, first) == (0, "purged everything: removed 1 from memory, 0 from Redis")
    assert others == [
        "Redis is unavailable: the purge reaches the other servers when Redis is back",
        "Redis could not be searched completely; its remaining records are never served",
    ]
    assert remaining == []


def test_the_error_of_a_malformed_url_is_the_servers(guarded):
    result = run(guarded, "/img/w_x/cat.png")

    assert result.exit_code == 1
    assert 'w: "x" is not allowed' in result.stderr


def test_an_unknown_tag_is_an_error(guarded):
    result = run(guarded, "--tag", "dogs")

    assert result.exit_code == 1
    assert "there is no tag dogs" in result.stderr


def test_no_server_is_exit_code_1_and_a_hint():
    nobody = f"http://127.0.0.1:{free_port()}"

    result = CliRunner().invoke(main, ["purge", "--all", "--key", KEY, "--server", nobody])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {nobody}: connection refused")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--key", KEY],
        ["/img/cat.png", "--all", "--key", KEY],
        ["--source", "a", "--prefix", "b", "--key", KEY],
        ["--tag", "a", "--group", "b", "--key", KEY],
        ["--all"],
        ["--all", "--key", "two\nlines"],
        ["--all", "--key", KEY, "--server", "ftp://127.0.0.1"],
        ["--all", "--key", KEY, "--server", "http://127.0.0.1:http"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments):
    result = CliRunner().invoke(main, ["purge", *arguments], env={"IMGSERVER_ADMIN_KEY": None})

    assert result.exit_code == 2


def test_purge_loads_no_framework():
    line = "['purge', '--all', '--key', 'k', '--server', 'http://127.0.0.1:1']"
    code = f"import sys\nfrom imgserver.cli import main\ntry:\n    main({line})\nfinally:\n    print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.split()

    assert "http.client" in loaded
    assert {"aiohttp", "pydantic", "rich", "redis", "pyvips"} & set(loaded) == set()
