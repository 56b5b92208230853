"""`imgserver config` shows, checks and begins."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from imgserver.cli import main
from imgserver.loading import load
from imgserver.settings import Settings, hints, values


def run(*arguments: str, **environ: str) -> str:
    result = CliRunner().invoke(main, ["config", *arguments], env=environ)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_tells_value_and_origin(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[queue]\nroom = 7")

    shown = json.loads(run("show", "--json", "--config", str(file), IMGSERVER_WORKERS_COUNT="3"))

    assert list(shown) == list(hints())
    assert shown["queue.room"] == {"value": 7, "origin": f"file {file}"}
    assert shown["workers.count"] == {"value": 3, "origin": "env IMGSERVER_WORKERS_COUNT"}
    assert shown["limits.frames"] == {"value": 200, "origin": "default"}


def test_config_alone_is_show() -> None:
    table = run(IMGSERVER_CACHE_MEMORY_BYTES="1048576")

    assert ["cache.memory_bytes", "1MiB", "env", "IMGSERVER_CACHE_MEMORY_BYTES"] in [
        x.split() for x in table.splitlines()
    ]


def test_check_looks_at_the_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[queue]\nroom = 7")

    assert run("check", str(file), IMGSERVER_WRONG="1") == f"{file}: fine, 1 settings\n"


def test_check_names_every_fault_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[queue]\nroom = -7\nrom = 1")

    result = CliRunner().invoke(main, ["config", "check", str(file)])

    assert result.exit_code == 1
    assert "no setting queue.rom; nearest: queue.room" in result.stderr
    assert 'queue.room: "-7" is not allowed' in result.stderr
    assert "Traceback" not in result.output


def test_the_sample_is_valid_and_changes_nothing(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("arguments", [("show", "--jsn"), ("chek",), ("check",)])
def test_a_wrong_command_line_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(main, ["config", *arguments]).exit_code == 2
