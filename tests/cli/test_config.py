"""`imgserver config` shows the effective settings, validates files, and prints a sample."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from imgserver.cli import main
from imgserver.security.policy import Policy
from imgserver.settings import policy_file
from imgserver.settings.loader import load
from imgserver.settings.names import hints, values
from imgserver.settings.schema import Settings


def run(*arguments: str, **environ: str) -> str:
    result = CliRunner().invoke(main, ["config", *arguments], env=environ)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_prints_every_value_with_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[queue]\nmax_waiting = 7")

    shown = json.loads(run("show", "--json", "--config", str(file), IMGSERVER_WORKERS_COUNT="3"))

    assert [name for name in shown if not name.startswith("policy.")] == list(hints())
    assert shown["queue.max_waiting"] == {"value": 7, "origin": f"file {file}"}
    assert shown["workers.count"] == {"value": 3, "origin": "env IMGSERVER_WORKERS_COUNT"}
    assert shown["limits.frames"] == {"value": 200, "origin": "default"}


def test_config_alone_is_show() -> None:
    table = run(IMGSERVER_CACHE_MEMORY_BYTES="1048576")

    assert ["cache.memory_bytes", "1MiB", "env", "IMGSERVER_CACHE_MEMORY_BYTES"] in [
        x.split() for x in table.splitlines()
    ]


def test_an_unset_path_is_empty_except_for_the_default_source() -> None:
    shown = json.loads(run("show", "--json"))
    table = [line.split() for line in run().splitlines()]

    assert (shown["disk.path"]["value"], shown["source.root"]["value"]) == ("", ".")
    assert ["disk.path", "default"] in table
    assert ["limits.svg", "false", "default"] in table


def test_check_ignores_the_variables_of_the_shell(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[queue]\nmax_waiting = 7")

    assert run("check", str(file), IMGSERVER_WRONG="1") == f"{file}: valid, 1 settings\n"


def test_check_takes_secrets_from_variables(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[signing]\nmode = "required"')

    assert run("check", str(file), IMGSERVER_SIGNING_KEYS="00" * 16) == f"{file}: valid, 1 settings\n"
    assert CliRunner().invoke(main, ["config", "check", str(file)]).exit_code == 1


def test_check_reports_every_error_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[queue]\nmax_waiting = -7\nmax_wating = 1")

    result = CliRunner().invoke(main, ["config", "check", str(file)])

    assert result.exit_code == 1
    assert "no setting queue.max_wating; nearest: queue.max_waiting" in result.stderr
    assert 'queue.max_waiting: "-7" is not allowed' in result.stderr
    assert "Traceback" not in result.output


def test_the_sample_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(run("init"))

    assert load(file, {}, {}).settings == Settings()


def test_the_sample_uncommented_is_every_setting_at_its_default(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    lines = run("init").splitlines()
    file.write_text("\n".join(line[1:] if line.startswith("#") and line[1] != " " else line for line in lines))

    loaded = load(file, {}, {})

    assert loaded.settings == Settings()
    assert {origin.kind for origin in loaded.origins.values()} == {"file"}
    assert set(loaded.origins) == set(values(Settings()))


def test_show_ends_with_the_rules_of_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("clients: {deny: [192.0.2.0/24, 198.51.100.7]}")

    shown = json.loads(run("show", "--json", IMGSERVER_SECURITY_POLICY=str(file)))

    rules = {name: row for name, row in shown.items() if name.startswith("policy.")}
    assert rules["policy.clients.deny"] == {"value": "192.0.2.0/24, 198.51.100.7/32", "origin": f"file {file}"}
    assert rules["policy.rates.pictures.per_second"] == {"value": "0", "origin": "default"}
    assert list(rules) == [f"policy.{name}" for name in policy_file.values(Policy())]


def test_check_validates_the_policy_that_the_settings_name(tmp_path: Path) -> None:
    policy, file = tmp_path / "p.yaml", tmp_path / "a.toml"
    file.write_text(f'[security]\npolicy = "{policy}"')
    policy.write_text("proxies: {hops: 1}")

    valid = run("check", str(file))
    policy.write_text("proxies: {hop: 1}")
    failed = CliRunner().invoke(main, ["config", "check", str(file)])

    assert valid.splitlines()[1] == f"{policy}: valid, 1 rules differ from the defaults"
    assert (failed.exit_code, failed.stderr) == (
        1,
        f"Error: {policy}:1: no entry proxies.hop; nearest: proxies.hops\n",
    )


def test_check_validates_a_policy_by_itself() -> None:
    shipped = Path(__file__).parents[2] / "config" / "security.yaml"

    assert run("check", str(shipped)) == f"{shipped}: valid, 0 rules differ from the defaults\n"


@pytest.mark.parametrize("arguments", [("show", "--jsn"), ("chek",), ("check",)])
def test_a_wrong_command_line_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(main, ["config", *arguments]).exit_code == 2


def test_an_empty_path_of_a_policy_is_shown_as_empty() -> None:
    shown = {line.split()[0]: line.split()[1:] for line in run("show").splitlines() if line.startswith(("sou", "sec"))}

    assert (shown["source.root"][0], shown["security.policy"]) == (".", ["default"])


def test_a_piped_table_has_whole_values(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 120) / ("b" * 120)
    folder.mkdir(parents=True)
    file = tmp_path / "imgserver.toml"
    file.write_text(f'[source]\nroot = "{folder}"\n')

    result = CliRunner().invoke(main, ["config", "show", "--config", str(file)], env={"COLUMNS": "80"})

    (line,) = [line for line in result.stdout.splitlines() if line.startswith("source.root ")]
    assert line.split() == ["source.root", str(folder), "file", str(file)]


def test_secrets_of_urls_are_masked() -> None:
    environ = {
        "IMGSERVER_SOURCE_URL": "https://user:hunter2@cdn.example.com/a/",
        "IMGSERVER_REMOTE_ALLOWED_URLS": "https://cdn.example.com/?token=hunter2",
    }

    results = [CliRunner().invoke(main, ["config", "show", *more], env=environ) for more in ([], ["--json"])]

    assert "hunter2" not in "".join(result.output for result in results)
