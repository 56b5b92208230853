"""What can be told before the server starts, and what it prints when it has."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from imgserver.cli import main
from imgserver.cli.banner import announce, examples

SAMPLES = Path(__file__).parents[2] / "samples"


def test_a_missing_folder_is_told_before_anything_starts(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "photoss")])

    assert result.exit_code == 1
    assert "does not exist (source.root, from option DIR)" in result.stderr


def test_bad_options_are_told_together() -> None:
    result = CliRunner().invoke(main, ["serve", "--port", "80O", "--workers", "many"])

    assert result.exit_code == 1
    assert '--port: "80O" is not allowed; a whole number 0-65535' in result.stderr
    assert '--workers: "many" is not allowed' in result.stderr


def test_the_banner_has_four_to_eight_urls_of_real_pictures() -> None:
    shown = examples("http://127.0.0.1:9", SAMPLES)

    assert 4 <= len(shown) <= 8
    assert shown[-1][0] == "http://127.0.0.1:9/api/health"
    for url, _ in shown[:-1]:
        assert (SAMPLES / url.rsplit("/", 1)[1]).is_file()


def test_few_pictures_are_shown_in_turn_and_odd_names_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "w_5").mkdir()
    for name in ("a b#1.jpg", "w_5/100%.png", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).touch()

    urls = [url for url, _ in examples("", tmp_path)]

    assert urls[0] == "/img/w_400/a%20b%231.jpg"
    assert urls[1].endswith("/_/w_5/100%25.png")
    assert urls[2].endswith("/a%20b%231.jpg")


def test_an_empty_folder_still_gets_a_hint_and_the_health_page(tmp_path: Path) -> None:
    assert [url for url, _ in examples("http://h", tmp_path)] == ["http://h/img/w_400/<file>", "http://h/api/health"]


def test_urls_are_printed_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = "a-very-long-name-" * 10 + ".jpg"
    (tmp_path / name).touch()

    announce("http://127.0.0.1:8080", root=tmp_path)

    assert f"http://127.0.0.1:8080/img/w_400/{name}" in capsys.readouterr().out
