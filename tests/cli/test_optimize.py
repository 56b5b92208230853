"""`imgserver optimize`: files and folders become smaller, or stay as they are."""

import json
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from imgserver.cli import main
from tests.heic_files import heic
from tests.running_server import SAMPLES


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["optimize", "--workers", "1", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "photos"
    (root / "team").mkdir(parents=True)
    shutil.copy(SAMPLES / "dogs.jpg", root / "dogs.jpg")
    shutil.copy(SAMPLES / "cat.png", root / "team" / "cat.png")
    return root


def low_quality(path: Path) -> Path:
    """A JPEG file that becomes larger when it is encoded again."""
    exif = Image.Exif()
    exif[0x010E] = "planted-words"
    Image.open(SAMPLES / "dogs.jpg").resize((400, 600)).save(path, quality=15, exif=exif)
    return path


def test_a_folder_becomes_a_smaller_folder(folder, tmp_path):
    result = run(folder, "-o", tmp_path / "small")

    assert result.exit_code == 0, result.output
    made = {path.relative_to(tmp_path / "small").as_posix() for path in (tmp_path / "small").rglob("*.*")}
    assert made == {"dogs.jpg", "team/cat.png"}
    for name in made:
        assert (tmp_path / "small" / name).stat().st_size < (folder / name).stat().st_size
    assert (folder / "dogs.jpg").read_bytes() == (SAMPLES / "dogs.jpg").read_bytes()
    assert "2 of 2" in result.stdout


def test_heic_becomes_jpeg(folder, tmp_path):
    with Image.open(SAMPLES / "dogs.jpg") as dogs:
        (folder / "IMG_0001.HEIC").write_bytes(heic(dogs.resize((300, 450))))

    result = run(folder, "-o", tmp_path / "small", "--options", "w_200")

    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "small" / "IMG_0001.jpg") as made:
        assert (made.format, made.size) == ("JPEG", (200, 300))


def test_without_output_and_in_place_nothing_is_written(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}

    result = run(folder)

    assert result.exit_code == 0
    assert "Nothing was written" in result.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_a_folder_without_images_is_not_an_error(tmp_path):
    result = run(tmp_path)

    assert (result.exit_code, result.stderr) == (0, "There are no images.\n")


def test_in_place_a_smaller_file_keeps_its_permissions(folder):
    file = folder / "dogs.jpg"
    file.chmod(0o640)
    before = file.stat().st_size

    result = run(file, "--in-place")

    assert result.exit_code == 0, result.output
    assert file.stat().st_size < before
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(path.name for path in folder.iterdir()) == ["dogs.jpg", "team"]


def test_a_file_that_cannot_become_smaller_loses_its_metadata(tmp_path):
    file = low_quality(tmp_path / "a.jpg")

    facts = json.loads(run(file, "--in-place", "--json").stdout)

    assert facts["files"][0]["outcome"] == "original"
    assert b"planted-words" not in file.read_bytes()


def test_in_place_a_file_that_would_become_larger_is_unchanged(tmp_path):
    file = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(SAMPLES / "dogs.jpg").resize((400, 600)).save(file, quality=15, exif=exif)
    before = file.read_bytes()

    facts = json.loads(run(file, "--in-place", "--json").stdout)["files"][0]

    assert (facts["outcome"], facts["saved"], facts["written"]) == ("kept", 0, None)
    assert file.read_bytes() == before


def test_options_are_those_of_urls_and_the_suffix_is_the_formats(folder, tmp_path):
    result = run(folder, "-o", tmp_path / "web", "--options", "w_100,f_webp")

    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "web" / "dogs.webp") as made:
        assert (made.format, made.size) == ("WEBP", (100, 150))
    assert (tmp_path / "web" / "team" / "cat.webp").exists()


def test_an_unreadable_file_does_not_stop_the_others(folder, tmp_path):
    (folder / "bad.jpg").write_bytes(b"no picture")

    result = run(folder, "-o", tmp_path / "small", "--json")

    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    errors = {Path(one["file"]).name: one.get("error") for one in facts["files"]}
    assert errors == {"bad.jpg": "a text cannot be read here", "dogs.jpg": None, "cat.png": None}
    assert facts["total"]["after"] == sum(one.get("after", 0) for one in facts["files"])
    assert (tmp_path / "small" / "dogs.jpg").exists()


def test_in_place_keeps_the_format(folder):
    result = run(folder / "dogs.jpg", "--in-place", "--options", "f_webp", "--json")

    assert result.exit_code == 1
    assert "give -o DIR" in json.loads(result.stdout)["files"][0]["error"]
    assert not (folder / "dogs.webp").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", ".", "--in-place"), "exclude each other"),
        (("--options", "f_info"), "must result in an image"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(folder, arguments, words):
    result = run(folder, *arguments)

    assert result.exit_code == 2
    assert words in result.stderr


def test_an_invalid_option_is_an_error_before_anything_is_rendered(folder):
    result = run(folder, "--options", "w_x")

    assert result.exit_code == 1
    assert 'w: "x" is not allowed' in result.stderr


def test_a_file_is_not_replaced_without_in_place(folder):
    result = run(folder / "dogs.jpg", "-o", folder)

    assert result.exit_code == 2
    assert "--in-place" in result.stderr
    assert (folder / "dogs.jpg").read_bytes() == (SAMPLES / "dogs.jpg").read_bytes()


def test_two_results_of_the_same_name_are_an_error(folder, tmp_path):
    shutil.copy(SAMPLES / "dogs.jpg", tmp_path / "dogs.jpg")

    result = run(folder / "dogs.jpg", tmp_path / "dogs.jpg", "-o", tmp_path / "small")

    assert result.exit_code == 2
    assert "would both be" in result.stderr


def test_an_unwritable_folder_is_an_error_of_each_file(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")

    result = run(folder / "dogs.jpg", "-o", tmp_path / "file" / "x", "--json")

    assert result.exit_code == 1
    assert "file" in json.loads(result.stdout)["files"][0]["error"]
