"""`imgserver inspect` prints the metadata of a file as a table or as JSON."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from imgserver.cli import main
from tests.running_server import SAMPLES


def inspect(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)], env=environ)


@pytest.fixture
def phone_photo(tmp_path: Path) -> Path:
    """A photograph as phones write it: with an orientation and a GPS position."""
    file = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker (of phones)"
    exif.get_ifd(0x8769)[0x829A] = IFDRational(1, 50)
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 0.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (60, 40), (200, 30, 40)).save(file, exif=exif, icc_profile=profile)
    return file


@pytest.fixture
def animation(tmp_path: Path) -> Path:
    file = tmp_path / "party.gif"
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "green", "blue")]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=[100, 200, 300])
    return file


def test_all_metadata_except_the_gps_position_is_printed(phone_photo: Path) -> None:
    told = json.loads(inspect("--json", phone_photo).stdout)

    assert (told["format"], told["width"], told["height"], told["orientation"]) == ("jpg", 60, 40, 6)
    assert told["exif"] == {
        "Make": "Maker (of phones)",
        "DateTimeOriginal": "2024:05:06 07:08:09",
        "ExposureTime": "1/50 sec.",
    }
    assert told["has_place"] is True
    assert "48" not in json.dumps(told["exif"])
    assert told["profile"] == "sRGB built-in"
    assert told["palette"][0]["share"] > 0.9


def test_the_frames_of_an_animation_are_printed(animation: Path) -> None:
    told = json.loads(inspect("--json", animation).stdout)

    assert (told["format"], told["frames"], told["delays"]) == ("gif", 3, [100, 200, 300])


def test_transparency_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGBA", (4, 4), (1, 2, 3, 4)).save(file)

    assert json.loads(inspect("--json", file).stdout)["alpha"] is True


def test_the_table_has_the_same_values(phone_photo: Path) -> None:
    table = inspect(phone_photo).stdout

    for words in (
        "60×40 px, before EXIF orientation 6",
        "present; removed",
        "Maker (of phones)",
        "sRGB built-in",
        "██ #",
    ):
        assert words in table


def test_every_sample_can_be_inspected() -> None:
    for file in (*SAMPLES.glob("*.jpg"), *SAMPLES.glob("*.png")):
        assert json.loads(inspect("--json", file).stdout)["bytes"] == file.stat().st_size


@pytest.mark.parametrize(("name", "body"), [("text.jpg", b"no picture"), ("empty.png", b""), ("half.gif", b"GIF89a\1")])
def test_an_unreadable_file_is_exit_code_1_and_is_named(tmp_path: Path, name: str, body: bytes) -> None:
    (tmp_path / name).write_bytes(body)

    result = inspect(tmp_path / name)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {tmp_path / name}: ")


def test_a_missing_file_is_exit_code_2(tmp_path: Path) -> None:
    assert inspect(tmp_path / "none.jpg").exit_code == 2
