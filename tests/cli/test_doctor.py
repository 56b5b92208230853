"""`imgserver doctor` reports every check, and its exit code says whether something must be repaired."""

import json
from pathlib import Path

from click.testing import CliRunner

from imgserver.cli import checks, main
from imgserver.plan.formats import FORMATS
from imgserver.settings.loader import load


def test_a_working_machine_is_exit_code_0(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"], env={"IMGSERVER_SOURCE_ROOT": str(tmp_path)})

    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {f"codec {name}" for name, row in FORMATS.items() if row.writable} <= {
        check["name"] for check in found if check["ok"]
    }


def test_every_failed_check_says_how_to_repair_it() -> None:
    changes = {"source.root": "/nowhere", "workers.count": 200, "server.max_connections": 900_000}

    failed = [check for check in checks.run(load(None, {}, changes).settings) if not check.ok]

    assert {"source folder", "CPUs", "open files"} <= {check.name for check in failed}
    assert all(check.fix for check in failed)


def test_a_missing_folder_is_exit_code_1() -> None:
    result = CliRunner().invoke(main, ["doctor"], env={"IMGSERVER_SOURCE_ROOT": "/nowhere"})

    assert result.exit_code == 1
    assert "✗" in result.stdout
    assert "→ set source.root" in result.stdout
    assert "checks: 1 must be repaired" in result.stdout
