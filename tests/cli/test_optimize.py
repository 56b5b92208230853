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


def collisions(tmp_path: Path, files: dict[str, str], *options: str) -> str:
    """The message about files (paths, and the formats that Pillow writes); nothing may be written."""
    for name, kind in files.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path, kind)

    result = run(*(tmp_path / "in" / name for name in files), "-o", tmp_path / "out", *options)

    assert result.exit_code == 2, result.output
    assert not (tmp_path / "out").exists()
    return result.stderr


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"a/p.jpg": "JPEG", "b/p.jpg": "JPEG"}, ()),
        ({"p.jpg": "JPEG", "p.tif": "TIFF"}, ()),
        ({"p.jpg": "JPEG", "p.HEIC": "HEIF"}, ()),
        ({"p.jpg": "JPEG", "p.png": "PNG"}, ("--options", "f_webp")),
        ({"p.jpg": "JPEG", "P.JPG": "JPEG"}, ()),
        ({"p.jpg": "JPEG", "p.jpeg": "JPEG"}, ("--options", "f_png")),
        ({"\u00e9.jpg": "JPEG", "e\u0301.jpg": "JPEG"}, ()),
        ({"p.jpg": "JPEG", "p.png": "PNG"}, ("--options", "f_auto,r_4")),
        ({"scan.1": "JPEG", "scan.2": "JPEG"}, ()),
    ],
)
def test_results_that_could_have_one_name_are_an_error_before_anything_is_written(tmp_path, files, options):
    message = collisions(tmp_path, files, *options)

    assert "would both be" in message
    assert all(str(tmp_path / "in" / name) in message for name in files)


def test_every_collision_is_named(tmp_path):
    message = collisions(tmp_path, {f"{name}.{kind}": "PNG" for name in "xyz" for kind in ("png", "PNG")})

    assert message.count("would both be") == 3


def test_results_of_different_names_are_written(tmp_path):
    image = Image.new("RGB", (8, 8))
    for name in ("p.jpg", "p.png", "p.webp", "p.gif"):
        image.save(tmp_path / name)

    result = run(*sorted(tmp_path.glob("p.*")), tmp_path / "p.png", "-o", tmp_path / "out")

    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["p.gif", "p.jpg", "p.png", "p.webp"]


def test_an_original_in_the_output_folder_is_an_error(folder):
    result = run(folder, "-o", folder / "team")

    assert result.exit_code == 2
    assert str(folder / "team" / "cat.png") in result.stderr
    assert (folder / "team" / "cat.png").read_bytes() == (SAMPLES / "cat.png").read_bytes()


def test_a_link_in_the_output_folder_does_not_lead_to_an_original(folder, tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "dogs.jpg").symlink_to(folder / "dogs.jpg")

    result = run(folder, "-o", tmp_path / "small")

    assert result.exit_code == 2
    assert (folder / "dogs.jpg").read_bytes() == (SAMPLES / "dogs.jpg").read_bytes()


NOISE = [Image.effect_noise((80, 60), 90).convert("RGB") for _ in range(3)]
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100)


@pytest.fixture
def several(tmp_path) -> Path:
    """A folder of files that hold more than one picture."""
    root = tmp_path / "several"
    root.mkdir()
    first, *rest = (image.copy() for image in NOISE)  # Pillow's encoders leave their settings in an image
    for name in ("a.png", "a.avif", "a.gif", "a.webp", "fax.tif"):
        first.save(root / name, save_all=True, append_images=rest, duration=90)
    (root / "burst.heic").write_bytes(heic(first, *rest))
    first.save(root / "motion.jpg", quality=97)
    first.save(root / "stereo.jpg", "MPO", save_all=True, append_images=rest, quality=97)
    with (root / "motion.jpg").open("ab") as file:
        file.write(VIDEO)
    return root


UNREAD = {"a.png": "3 frames", "a.avif": "3 frames", "fax.tif": "3 pages", "burst.heic": "3 pages"}
APPENDED = {"stereo.jpg": "a second picture", "motion.jpg": "a video"}


def test_in_place_no_frame_page_or_appended_picture_is_lost(several):
    before = {path.name: path.read_bytes() for path in several.iterdir()}

    result = run(several, "--in-place", "--json")

    assert result.exit_code == 0, result.output
    rows = {Path(row["file"]).name: row for row in json.loads(result.stdout)["files"]}
    for name, words in (UNREAD | APPENDED).items():
        assert (several / name).read_bytes() == before[name], name
        assert (rows[name]["outcome"], rows[name]["written"]) == ("kept", None)
        assert words in rows[name]["reason"]
    for name in ("a.gif", "a.webp"):
        with Image.open(several / name) as image:
            image.load()
            assert (image.n_frames, image.info["duration"]) == (3, 90), name


def test_a_copy_without_all_frames_is_an_error_and_one_without_an_appended_picture_is_named(several, tmp_path):
    result = run(several, "-o", tmp_path / "out", "--json")

    assert result.exit_code == 1
    rows = {Path(row["file"]).name: row for row in json.loads(result.stdout)["files"]}
    assert all(words in rows[name]["error"] for name, words in UNREAD.items())
    assert {name: rows[name]["left_out"] for name in APPENDED} == APPENDED
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a.gif", "a.webp", "motion.jpg", "stereo.jpg"]


def test_options_that_name_a_frame_leave_out_the_others(several, tmp_path):
    result = run(several / "a.png", several / "a.gif", "-o", tmp_path / "out", "--options", "fl_still,f_webp")

    assert result.exit_code == 2  # one name
    result = run(several / "a.gif", several / "fax.tif", "-o", tmp_path / "out", "--options", "pg_2,f_png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out" / "fax.png") as image:
        assert image.convert("RGB").tobytes() == NOISE[1].tobytes()


def test_an_unwritable_folder_is_an_error_of_each_file(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")

    result = run(folder / "dogs.jpg", "-o", tmp_path / "file" / "x", "--json")

    assert result.exit_code == 1
    assert "file" in json.loads(result.stdout)["files"][0]["error"]
