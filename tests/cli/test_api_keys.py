"""`imgserver api-keys` prints a new key with the settings that make a server accept it."""

import json
import re
import tomllib
from pathlib import Path

from click.testing import CliRunner, Result

from imgserver.cli import main
from imgserver.security.api_keys import ApiKeys
from imgserver.settings.loader import load


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["api-keys", *arguments])


def keys_of(toml: str, tmp_path: Path) -> ApiKeys:
    file = tmp_path / "imgserver.toml"
    file.write_text(toml)
    return ApiKeys(load(file, {}, {}).settings.api_keys)


def printed(result: Result) -> tuple[str, str]:
    """The key and the lines for the file that were printed."""
    key = re.search(r"^  (ci\.\S{43})$", result.stdout, re.MULTILINE)
    assert key is not None
    lines = result.stdout.split("imgserver.toml:\n")[1].split("\n\n")[0]
    return key[1], "\n".join(line.strip() for line in lines.splitlines())


def test_a_new_key_is_accepted_with_the_printed_lines(tmp_path):
    result = run("new", "ci", "--scope", "upload")
    key, lines = printed(result)

    assert result.exit_code == 0
    assert keys_of(lines, tmp_path).check(f"Bearer {key}", "upload") == "ci"
    assert key not in lines


def test_a_new_key_is_accepted_with_the_printed_variables(tmp_path):
    result = run("new", "ci", "--scope", "upload", "--scope", "purge")
    key, _ = printed(result)
    variables = dict(re.findall(r'^  (IMGSERVER_\w+)="(.*)"$', result.stdout, re.MULTILINE))

    keys = ApiKeys(load(None, variables, {}).settings.api_keys)

    assert keys.check(f"Bearer {key}", "purge") == "ci"
    assert keys.check(f"Bearer {key}", "upload") == "ci"


def test_a_second_key_of_an_id_keeps_the_first_valid(tmp_path):
    old, lines = printed(run("new", "ci", "--scope", "upload"))
    file = tmp_path / "imgserver.toml"
    file.write_text(lines)

    new, rotated = printed(run("new", "ci", "--scope", "upload", "--config", str(file)))

    keys = keys_of(rotated, tmp_path)
    assert keys.check(f"Bearer {old}", "upload") == keys.check(f"Bearer {new}", "upload") == "ci"
    assert run("list", "--config", str(file)).stdout == "ci: upload; two keys are valid\n"


def test_new_prints_json():
    facts = json.loads(run("new", "ci", "--scope", "admin", "--json").stdout)

    assert set(facts) == {"name", "key", "scopes", "digest"}
    assert tomllib.loads(f'x = "{facts["digest"]}"')


def test_list_has_no_keys(tmp_path):
    _, lines = printed(run("new", "ci", "--scope", "upload"))
    file = tmp_path / "imgserver.toml"
    file.write_text(lines)

    assert json.loads(run("list", "--json", "--config", str(file)).stdout) == [
        {"name": "ci", "scopes": ["upload"], "keys": 1}
    ]


def test_invalid_ids_and_scopes_are_refused():
    assert run("new", "Bad Name", "--scope", "upload").exit_code == 1
    assert run("new", "ci", "--scope", "everything").exit_code == 2
    assert run("new", "ci").exit_code == 2
