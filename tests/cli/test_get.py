"""`imgserver get`: one request with the parser, the limits and the engine of the server."""

import os
import stat
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from imgserver.cli import main
from imgserver.security.signing import Keyring, SigningKey
from tests.heic_files import heic
from tests.running_server import SAMPLES


def get(*arguments: str, root: Path = SAMPLES, **environ: str) -> Result:
    return CliRunner().invoke(main, ["get", *arguments, "--root", str(root)], env=environ)


def image_of(result: Result) -> tuple[str | None, tuple[int, int]]:
    assert result.exit_code == 0, result.output
    with Image.open(BytesIO(result.stdout_bytes)) as image:
        return image.format, image.size


def test_an_image_is_written_to_a_file_and_described_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "cat.png"

    result = get("/img/w_400/cat.png", "-o", str(file))

    assert result.stdout == ""
    assert result.stderr.startswith(f"{file}: {file.stat().st_size} bytes, image/png, 400×266, ")
    with Image.open(file) as image:
        assert (image.format, image.size) == ("PNG", (400, 266))
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]


def test_a_heic_becomes_a_jpeg(tmp_path: Path) -> None:
    (tmp_path / "phone.heic").write_bytes(heic(Image.new("RGB", (90, 60))))

    assert image_of(get("/img/w_40/phone.heic", root=tmp_path)) == ("JPEG", (40, 27))


def test_an_image_is_written_to_a_pipe() -> None:
    assert image_of(get("/img/w_40,f_jpg/cat.png")) == ("JPEG", (40, 27))


def test_a_url_copied_from_a_browser_is_accepted() -> None:
    assert image_of(get("http://127.0.0.1:8080/img/w_40/cat.png")) == ("PNG", (40, 27))


@pytest.mark.parametrize(
    ("target", "suffix", "accept", "format"),
    [
        ("/img/w_40/cat.png", ".webp", None, "WEBP"),
        ("/img/w_40,f_auto/cat.png", ".jpeg", None, "JPEG"),
        ("/img/w_40,f_gif/cat.png", ".webp", None, "GIF"),
        ("/img/w_40/cat.png", ".dat", None, "PNG"),
        ("/img/w_40,f_auto/cat.png", ".png", "image/webp", "WEBP"),
    ],
)
def test_the_url_decides_the_format_then_accept_then_the_suffix(
    tmp_path: Path, target: str, suffix: str, accept: str | None, format: str
) -> None:
    file = tmp_path / f"out{suffix}"

    result = get(target, "-o", str(file), *(["--accept", accept] if accept else []))

    assert result.exit_code == 0, result.output
    with Image.open(file) as image:
        assert image.format == format


def test_info_is_printed_as_json() -> None:
    assert '"width": 451' in get("/img/w_40,f_info/cat.png").stdout


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("/img/w_4x/cat.png", 'Error: w: "4x" is not allowed'),
        ("/img/w_4/cot.png", "Error: cot.png: no such original in "),
        ("/img/wd_800/cat.png", "did you mean w_800?"),
        ("/img/../etc/passwd", "Error: "),
        ("/elsewhere/cat.png", "Error: "),
        ("/img/w_40/ATTRIBUTION.md", "cannot be read here"),
    ],
)
def test_an_invalid_request_is_exit_code_1_and_one_sentence(tmp_path: Path, target: str, sentence: str) -> None:
    file = tmp_path / "out.png"

    result = get(target, "-o", str(file))

    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failed_render_does_not_touch_the_old_file(tmp_path: Path) -> None:
    broken = tmp_path / "photos"
    broken.mkdir()
    (broken / "half.jpg").write_bytes((SAMPLES / "dogs.jpg").read_bytes()[:100_000])
    file = tmp_path / "out.jpg"
    file.write_text("the old content")

    result = get("/img/w_400/half.jpg", "-o", str(file), root=broken)

    assert result.exit_code == 1
    assert file.read_text() == "the old content"


def test_a_concurrent_reader_of_the_file_sees_the_old_image(tmp_path: Path) -> None:
    file = tmp_path / "out.png"
    file.write_text("the old content")

    with file.open() as reader:
        assert get("/img/w_40/cat.png", "-o", str(file)).exit_code == 0

        assert reader.read() == "the old content"
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert get("/img/w_40/cat.png", "-o", str(pipe)).exit_code == 0

        assert stat.S_ISFIFO(pipe.lstat().st_mode)
        assert os.read(reader, 8).startswith(b"\x89PNG")
    finally:
        os.close(reader)


def test_a_symlink_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("file.png")

    assert get("/img/w_40/cat.png", "-o", str(tmp_path / "link.png")).exit_code == 0

    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "file.png").read_bytes().startswith(b"\x89PNG")


def test_the_host_of_a_url_does_not_matter(tmp_path: Path) -> None:
    for host in ("127.0.0.1:8080", "h", "[::1]:80"):
        assert get(f"http://{host}/img/w_40/cat.png", "-o", str(tmp_path / "out.png")).exit_code == 0


def test_the_configured_limits_apply() -> None:
    result = get("/img/w_40/cat.png", IMGSERVER_LIMITS_SOURCE_PIXELS="1000")

    assert result.exit_code == 1
    assert "over the limit of 1000" in result.stderr


def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    result = get("/img/w_40/cat.png", "-o", str(tmp_path / "nowhere" / "out.png"))

    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


def test_no_signature_is_needed_but_an_expired_url_is_refused() -> None:
    keys = {"IMGSERVER_SIGNING_MODE": "required", "IMGSERVER_SIGNING_KEYS": bytes(range(32)).hex()}
    mac = Keyring((SigningKey(bytes(range(32))),)).sign("exp_1/w_40/cat.png", source="photos")

    assert image_of(get("/img/w_40/cat.png", **keys)) == ("PNG", (40, 27))
    assert "this link has expired" in get(f"/img/s--{mac}--/exp_1/w_40/cat.png", **keys).stderr
    assert "the signature does not match" in get("/img/s--x--/w_40/cat.png", **keys).stderr
