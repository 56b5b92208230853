"""A result is no larger than the original, or it says why. Nothing of the file but its pixels is in the result."""

from pathlib import Path

import pytest
from PIL import Image, ImageCms

from imgserver.engine.job import Job, Limits, RenderResult
from imgserver.engine.optimize import optimize
from imgserver.errors import BrokenImage, FramesLost, ImageOverLimit, UnsupportedImage
from imgserver.plan.plan import BLACK, Crop, Fit, Flatten, Orient, Output, Plan, Px, Step, Terminal, Tone, Trim
from tests.engine.conftest import difference, opened, saved
from tests.engine.test_lossless_strip import PLAIN, WORDS, exif
from tests.running_server import SAMPLES

DOGS = Image.open(SAMPLES / "dogs.jpg").convert("RGB").resize((514, 772))
# Each of these becomes larger when it is encoded again at the default quality.
POOR = saved(DOGS, "JPEG", quality=15, exif=exif(), comment=WORDS)


@pytest.fixture
def make(tmp_path: Path):
    def make(data: bytes, *steps: Step, limits: Limits | None = None, terminal: Terminal | None = None, **output):
        path = tmp_path / "upload"
        path.write_bytes(data)
        plan = Plan((Orient(), *steps), Output(**output), terminal or Terminal())
        return optimize(Job(str(path), plan, limits or Limits(), goal="optimize"))

    return make


def outcome(result: RenderResult) -> tuple[str, str]:
    return result.outcome, result.reason


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.[jp][pn]g")), ids=lambda path: path.name)
def test_no_sample_becomes_larger(make, path):
    data = path.read_bytes()

    result = make(data)

    assert len(result.body) <= len(data)
    assert outcome(result)[0] in ("encoded", "original")


@pytest.mark.parametrize("name", PLAIN)
def test_metadata_is_in_no_result(make, name):
    for output in ({}, {"format": "png", "frames": "first"}, {"format": "webp"}):
        assert WORDS not in make(PLAIN[name], **output).body


def test_an_image_that_becomes_smaller_is_encoded_again(make):
    result = make(saved(DOGS, "JPEG", quality=95))

    assert outcome(result) == ("encoded", "")
    assert result.media_type == "image/jpeg"


def test_an_image_that_would_become_larger_keeps_its_compressed_pixels(make):
    result = make(POOR)

    assert outcome(result) == ("original", "")
    assert len(result.body) < len(POOR)
    assert opened(result.body).tobytes() == opened(POOR).tobytes()
    assert (result.size.width, result.size.height) == DOGS.size


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((Fit(width=Px(2000)),), id="a box it is already inside"),
        pytest.param((Crop(width=Px(514), height=Px(772)),), id="a window as large as it"),
        pytest.param((Flatten(BLACK),), id="a fill of what is opaque"),
    ],
)
def test_steps_without_an_effect_keep_the_compressed_pixels(make, steps):
    assert outcome(make(POOR, *steps)) == ("original", "")


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((Fit(width=Px(600), enlarge="allow"),), id="enlarged"),
        pytest.param((Tone("contrast"), Tone("negate")), id="negated"),
        pytest.param((Trim(),), id="trimmed"),
    ],
)
def test_steps_that_change_pixels_are_a_reason_to_encode(make, steps):
    assert outcome(make(POOR, *steps, quality=90)) == ("larger", "options")


@pytest.mark.parametrize("output", [{"metadata": "copyright"}, {"profile": "keep"}, {"progressive": True}], ids=str)
def test_output_options_are_a_reason_to_encode(make, output):
    assert outcome(make(POOR, **output, quality=90)) == ("larger", "options")


def test_another_format_is_encoded(make):
    result = make(POOR, format="png")

    assert outcome(result) == ("larger", "format")
    assert opened(result.body).format == "PNG"


@pytest.mark.parametrize(("offers", "expected"), [((), ("larger", "format")), (("webp",), ("original", ""))])
def test_the_original_is_used_only_in_a_format_that_the_client_shows(make, offers, expected):
    assert outcome(make(saved(DOGS, "WEBP", quality=3), format="auto", offers=offers)) == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_with_an_orientation_is_encoded_upright(make, orientation):
    upright = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    stored = DOGS if orientation == 1 else DOGS.transpose(turns[upright])
    made = Image.Exif()
    made[0x0112] = orientation

    result = make(saved(stored, "JPEG", quality=15, exif=made), quality=90)

    assert outcome(result) == (("original", "") if orientation == 1 else ("larger", "orientation"))
    assert not opened(result.body).getexif()
    assert difference(opened(result.body), DOGS) < 12


def test_an_ignored_orientation_keeps_the_compressed_pixels(tmp_path):
    made = Image.Exif()
    made[0x0112] = 6
    path = tmp_path / "upload"
    path.write_bytes(saved(DOGS, "JPEG", quality=15, exif=made))

    result = optimize(Job(str(path), Plan(), goal="optimize"))

    assert outcome(result) == ("original", "")
    assert not opened(result.body).getexif()
    assert opened(result.body).size == DOGS.size


def test_colors_that_need_their_profile_are_converted(make):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    assert outcome(make(saved(DOGS, "JPEG", quality=15, icc_profile=srgb))) == ("original", "")
    assert outcome(make(saved(DOGS, "JPEG", quality=15, icc_profile=lab), quality=90)) == ("larger", "profile")
    assert outcome(make(saved(DOGS.convert("CMYK"), "JPEG", quality=5)))[0] != "original"


def test_an_avif_that_would_become_larger_keeps_its_compressed_pixels(make):
    data = saved(DOGS, "AVIF", quality=3, exif=exif())

    result = make(data)

    assert outcome(result) == ("original", "")
    assert WORDS not in result.body
    assert opened(result.body).tobytes() == opened(data).tobytes()


def test_an_animation_stays_animated(make):
    frames = [DOGS.resize((64, 96)).rotate(angle) for angle in (0, 90)]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=0, exif=exif())

    result = make(data)

    assert outcome(result) == ("original", "")
    assert opened(result.body).n_frames == result.size.frames == 2
    assert outcome(make(data, frames="first"))[0] == "encoded"


SEVERAL = {"save_all": True, "append_images": [DOGS.resize((64, 96)).rotate(angle) for angle in (90, 180)]}


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("PNG", {}),
        ("PNG", {"format": "webp"}),
        ("AVIF", {}),
        ("AVIF", {"format": "auto", "offers": ("avif",)}),
        ("TIFF", {}),
        ("GIF", {"format": "jpg"}),
        ("WEBP", {"format": "avif"}),
    ],
)
def test_a_result_without_all_frames_is_refused_unless_one_is_named(make, name, output):
    data = saved(DOGS.resize((64, 96)), name, **SEVERAL)

    with pytest.raises(FramesLost, match=r"3 (frames|pages)"):
        make(data, **output)
    assert make(data, frames="first", **output).size.frames == 1
    assert make(data, frames=1, **output).size.frames == 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("jpeg and zip", POOR + b"PK\x03\x04" + WORDS),
        ("jpeg with a page in its comment", saved(DOGS, "JPEG", quality=15, comment=b"<html><script>" + WORDS)),
        ("gif and script", PLAIN["gif"] + b"*/=1;alert(1)" + WORDS),
        ("png and zip", PLAIN["png palette"] + b"PK\x03\x04" + WORDS),
        ("webp and page", PLAIN["webp"] + b"<html>" + WORDS),
    ],
)
def test_only_the_image_of_a_polyglot_is_kept(make, name, data):
    result = make(data)

    assert WORDS not in result.body
    assert b"PK\x03\x04" not in result.body
    assert b"<html" not in result.body
    opened(result.body)


def test_a_file_that_decoders_warn_about_is_encoded_again(make):
    data = saved(DOGS, "JPEG", quality=15, progressive=True)

    result = make(data[:-2] + WORDS * 200 + data[-2:])

    assert outcome(result) == ("larger", "container")
    assert WORDS not in result.body


def test_data_about_an_image_is_returned_unchanged(make):
    assert make(POOR, terminal=Terminal("blurhash")).body


@pytest.mark.parametrize(
    ("data", "error"),
    [(POOR[: len(POOR) // 2], BrokenImage), (b"not an image", UnsupportedImage)],
    ids=["cut", "text"],
)
def test_a_broken_original_is_refused(make, data, error):
    with pytest.raises(error):
        make(data)


def test_the_limits_of_originals_apply(make):
    with pytest.raises(ImageOverLimit):
        make(POOR, limits=Limits(source_pixels=1000))
