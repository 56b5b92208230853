"""`imgserver serve`: the errors before the server starts, and the banner after it has."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from imgserver.cli import main
from imgserver.cli.banner import Banner, examples
from imgserver.settings.schema import DefaultSource, Settings
from tests.running_server import SAMPLES


def settings_of(root: Path) -> Settings:
    return Settings(source=DefaultSource(root))


def test_a_missing_folder_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "photoss")])

    assert result.exit_code == 1
    assert "does not exist (source.root, from option DIR)" in result.stderr


def test_an_unknown_host_is_an_error_of_one_sentence() -> None:
    result = CliRunner().invoke(main, ["serve", str(SAMPLES), "--host", "nowhere.invalid", "--port", "0"])

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: cannot listen on nowhere.invalid port 0: ")
    assert "Unknown error" not in result.stderr


def test_invalid_options_are_reported_together() -> None:
    result = CliRunner().invoke(main, ["serve", "--port", "80O", "--workers", "many"])

    assert result.exit_code == 1
    assert '--port: "80O" is not allowed; a whole number 0-65535' in result.stderr
    assert '--workers: "many" is not allowed' in result.stderr


def test_the_banner_has_four_to_eight_urls_of_existing_originals() -> None:
    shown = examples(settings_of(SAMPLES))

    assert 4 <= len(shown) <= 8
    assert shown[-1][0] == "/api/health"
    for target, _ in shown[:-1]:
        assert (SAMPLES / target.rsplit("/", 1)[1]).is_file()


def test_few_originals_are_repeated_and_their_names_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "w_5").mkdir()
    for name in ("a b#1.jpg", "w_5/100%.png", "notes.txt", ".hidden.jpg", "back\\slash.jpg"):
        (tmp_path / name).touch()

    targets = [target for target, _ in examples(settings_of(tmp_path))]

    assert targets[0] == "/img/w_400/a%20b%231.jpg"
    assert targets[1].endswith("/_/w_5/100%25.png")
    assert targets[2].endswith("/a%20b%231.jpg")


def test_the_banner_of_an_empty_folder_has_a_hint_and_the_health_page(tmp_path: Path) -> None:
    assert [target for target, _ in examples(settings_of(tmp_path))] == ["/img/w_400/<file>", "/api/health"]


def test_long_urls_are_not_cut(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = "a-very-long-name-" * 10 + ".jpg"
    (tmp_path / name).touch()

    Banner.of(settings_of(tmp_path))("http://127.0.0.1:8080")

    assert f" http://127.0.0.1:8080/img/w_400/{name}\n" in capsys.readouterr().out


def test_the_brackets_of_an_ipv6_address_are_not_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")

    Banner.of(settings_of(SAMPLES / "[odd]"))("http://[::1]:8080")

    printed = capsys.readouterr().out
    assert "serves " + str(SAMPLES / "[odd]") + " at http://[::1]:8080 (" in printed
    assert "8;id=" in printed  # a terminal hyperlink (OSC 8)
    assert ";http://[::1]:8080/api/health\x1b" in printed
