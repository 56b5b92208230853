"""The doctor tries things; what it says is what it saw."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from imgserver.cli import checks, main
from imgserver.cli.checks import Check
from imgserver.engine.job import Job
from imgserver.errors import NotInThisBuild, UnsupportedImage
from imgserver.plan.formats import FORMATS
from imgserver.settings.loader import load
from imgserver.settings.schema import Settings
from tests.redis_server import running


def named(name: str, settings: Settings) -> Check:
    return next(check for check in checks.run(settings) if check.name == name)


def test_a_sound_machine_is_exit_code_0(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"], env={"IMGSERVER_SOURCE_ROOT": str(tmp_path)})

    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {f"codec {name}" for name, row in FORMATS.items() if row.writable} <= {
        check["name"] for check in found if check["ok"]
    }


def test_whatever_is_not_well_says_how_to_repair_it() -> None:
    settings = load(
        None, {}, {"source.root": "/nowhere", "workers.count": 200, "server.max_connections": 900_000}
    ).settings

    ill = [check for check in checks.run(settings) if not check.ok]

    assert {"source folder", "CPUs", "open files"} <= {check.name for check in ill}
    assert all(check.fix for check in ill)


def test_a_missing_folder_is_exit_code_1() -> None:
    result = CliRunner().invoke(main, ["doctor"], env={"IMGSERVER_SOURCE_ROOT": "/nowhere"})

    assert result.exit_code == 1
    assert "✗" in result.stdout
    assert "→ set source.root" in result.stdout


def test_a_taken_port_is_noted_but_no_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check = named("port", load(None, {}, {"server.port": taken.getsockname()[1]}).settings)

    assert (check.ok, check.needed) == (False, False)
    assert "in use" in check.found


def test_redis_is_asked_where_one_is_set(tmp_path: Path) -> None:
    assert "Redis" not in {check.name for check in checks.run(Settings())}
    with running(tmp_path) as redis:
        settings = load(None, {"REDIS_URL": redis.url}, {}).settings
        there = named("Redis", settings)
    gone = named("Redis", settings)
    unusable = named("Redis", load(None, {"REDIS_URL": "redis+sentinel://h"}, {}).settings)

    assert (there.ok, there.found) == (True, "reads and writes")
    assert (gone.ok, gone.needed, gone.found) == (False, False, "no answer (connection)")
    assert (unusable.ok, unusable.needed) == (False, True)


def test_a_codec_that_fails_is_a_fault(tmp_path: Path) -> None:
    def render(job: Job) -> bytes:
        raise NotInThisBuild("this build cannot write avif")

    check = checks._codec("avif", tmp_path / "a.png", render)

    assert (check.ok, check.needed, check.found) == (False, True, "this build cannot write avif")


def test_heic_is_read_or_the_extra_is_named(tmp_path: Path) -> None:
    def refuse(job: Job) -> bytes:
        raise UnsupportedImage("heic is not read here")

    assert named("codec heic", Settings()).found == "reads"
    check = checks._heic(tmp_path, refuse)
    assert (check.ok, check.needed, check.fix) == (False, False, "pip install 'imgserver[heic]'")


def test_fonts_are_judged_by_what_is_drawn(tmp_path: Path) -> None:
    assert checks._fonts(tmp_path, lambda job: b"the same picture with and without text").ok is False
    assert checks._fonts(tmp_path, lambda job: Path(job.path).read_bytes()).ok is True


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgserver.runtime.resources.cpus", lambda: 1 / 0)

    assert "ZeroDivisionError" in named("cpus", Settings()).found
