"""`server.plugins`: modules that are imported when the settings are loaded."""

import sys
from pathlib import Path

import pytest

from imgserver.settings.loader import BadSettings, load
from imgserver.settings.plugins import plugin_version


def test_a_plugin_is_imported_before_the_settings_are_composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin_of_a_test.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(tmp_path)

    settings = load(None, {"IMGSERVER_SERVER_PLUGINS": "plugin_of_a_test"}, {}).settings
    plugin = sys.modules.pop("plugin_of_a_test")
    assert settings.server.plugins == ("plugin_of_a_test",)
    assert plugin.LOADED


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (None, "ModuleNotFoundError: No module named 'plugin_of_a_test'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_plugin_that_cannot_be_imported_stops_the_server(
    code: str | None, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code is not None:
        (tmp_path / "plugin_of_a_test.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(BadSettings) as caught:
        load(None, {"IMGSERVER_SERVER_PLUGINS": "plugin_of_a_test"}, {})
    assert caught.value.facts["faults"] == (f"server.plugins: plugin_of_a_test cannot be imported: {error}",)


def test_the_version_of_a_plugin_changes_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "plugin_of_a_test.py"
    monkeypatch.syspath_prepend(tmp_path)
    versions = []
    for code in ("EFFORT = 1\n", "EFFORT = 1\n", "EFFORT = 2\n"):
        file.write_text(code)
        versions.append(plugin_version("plugin_of_a_test"))
    sys.modules.pop("plugin_of_a_test")

    assert versions[0] == versions[1] != versions[2]
