"""All available odd, broken and hostile images, as originals and as uploads of a real server, eight at a time.

Each must get an image that decodes and has the requested size, or a clear error (404, 413, 415, 422). No worker dies,
memory is bounded, and no files remain. `serving` checks that every request is counted once.
"""

import io
import random
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from tests import corpus, decompression_bombs
from tests.heic_files import heic
from tests.running_server import Answer, ServerProcess, serving

pytestmark = pytest.mark.alone

EXPECTED = {200, 404, 413, 415, 422}
CONCURRENCY = 8
MIB = 1 << 20
SERVER_RSS_BYTES = 256 * MIB
# A worker may address 1 GiB. A HEIC of 33 million pixels at 10 bits needs the most memory of all allowed images.
WORKER_RSS_BYTES = 900 * MIB
# Files that kill a worker, with the reason why that cannot be avoided. There are none.
KILLERS: Mapping[str, str] = {}
# Options with the size of the result, whatever the original.
OPTIONS = (
    ("c_fill,w_96,h_72,f_png", (96, 72)),
    ("c_pad,w_80,h_60,f_webp", (80, 60)),
    ("c_scale,w_90,h_50,f_jpg,fl_keep_metadata", (90, 50)),
    ("c_fill,w_64,h_64,g_auto,f_gif", (64, 64)),
    ("c_lpad,w_70,h_70,b_white,f_auto", (70, 70)),
    ("c_fill,w_48,h_48,f_avif,fl_keep_copyright", (48, 48)),
)

Files = dict[str, bytes]


@dataclass
class Hostile:
    """A server, its files, and the folder for its temporary files, which must be empty at the end."""

    server: ServerProcess
    files: Files
    scratch: Path
    peaks: dict[int, int] = field(default_factory=dict)

    def measure(self) -> None:
        """Records the peak memory of all processes. Called several times, because workers are replaced."""
        for pid in (self.server.process.pid, *(worker.pid for worker in self.server.workers())):
            self.peaks[pid] = max(self.peaks.get(pid, 0), peak_rss(pid))

    def deaths(self) -> dict[str, int]:
        """Workers that ended for another reason than recycling."""
        restarts = self.server.image_health()["workers"]["restarts"]
        return {reason: count for reason, count in restarts.items() if count and reason not in ("rss", "recycle")}

    def temp_files(self) -> list[Path]:
        return [path for path in self.scratch.rglob("*") if path.is_file()]


def peak_rss(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def made() -> Files:
    """Decompression bombs, other files, and truncated, flipped and polyglot images of each format."""
    found = {f"bomb__{name}": body for name, body, _ in decompression_bombs.refused()}
    found |= {f"stranger__{name}.jpg": body for name, body in decompression_bombs.STRANGERS.items()}
    found["bomb__interlaced.png"] = decompression_bombs.interlaced_png(6_300)
    found["bomb__text.png"] = decompression_bombs.text_png()
    found["odd__empty.jpg"] = b""
    found["odd__page.png"] = b"<!doctype html><script>alert(1)</script>"
    found["odd__pdf.jpg"] = b"%PDF-1.7\n" + zlib.compress(bytes(1000))
    whole = originals()
    for name, body in whole.items():
        found[f"whole__{name}"] = body
        found |= {f"cut{tenth}__{name}": body[: len(body) * tenth // 10] for tenth in range(1, 10)}
        found |= {f"flip{number}__{name}": flipped(body, f"{name} {number}") for number in range(12)}
        found[f"zip_appended__{name}"] = body + b"PK\x03\x04 payload"
        for other, strange in whole.items():
            if other.rpartition(".")[2] != name.rpartition(".")[2]:
                found[f"head_of_{other}__{name}"] = strange[:16] + body
    return found


def originals() -> Files:
    photo = Image.merge("RGB", [Image.radial_gradient("L").rotate(turn) for turn in (0, 90, 180)]).resize((120, 90))
    movie = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)], "duration": 100}
    clear = photo.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    return {
        "photo.jpg": saved(photo, "JPEG"),
        "progressive.jpg": saved(photo, "JPEG", progressive=True),
        "inks.jpg": saved(photo.convert("CMYK"), "JPEG"),
        "clear.png": saved(clear, "PNG"),
        "still.webp": saved(photo, "WEBP"),
        "movie.webp": saved(photo, "WEBP", **movie),
        "movie.gif": saved(photo, "GIF", **movie),
        "photo.avif": saved(photo, "AVIF", speed=10),
        "photo.tif": saved(photo, "TIFF", compression="tiff_lzw"),
        "photo.heic": heic(photo),
        "clear.heic": heic(clear),
    }


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def flipped(body: bytes, seed: str) -> bytes:
    dice, flips = random.Random(seed), bytearray(body)
    for _ in range(dice.randint(1, 6)):
        flips[dice.randrange(12, len(flips))] ^= 1 << dice.randrange(8)
    return bytes(flips)


def collected() -> Files:
    found: Files = {}
    for archive in corpus.ARCHIVES:
        try:
            corpus.fetch(archive)
        except corpus.NotFetchedError as error:
            pytest.skip(f"not fetched: {error}")
        found |= corpus.images(archive)
    return found


@pytest.fixture(scope="module", params=["made", "collected"])
def hostile(request, tmp_path_factory) -> Iterator[Hostile]:
    files = made() if request.param == "made" else collected()
    folder, scratch = tmp_path_factory.mktemp("originals"), tmp_path_factory.mktemp("scratch")
    for name, body in files.items():
        (folder / name.replace(" ", "_")).write_bytes(body)
    settings = {"workers_count": 2, "disk_limit_bytes": 0, "uploads_max_concurrent": 4, "uploads_max_wait_seconds": 60}
    # These tests are about the files. No request may be refused because a busy machine renders slowly.
    waits = {"queue_deadline_seconds": 120, "queue_standing_seconds": 60}
    with serving(folder, variables={"TMPDIR": str(scratch)}, **settings, **waits) as server:
        yield Hostile(server, {name.replace(" ", "_"): body for name, body in files.items()}, scratch)
    assert list(scratch.iterdir()) == []


def faults(answers: Mapping[str, tuple[Answer, tuple[int, int] | None]]) -> dict[str, object]:
    """The answers that a client cannot use, by the name of the file."""
    found: dict[str, object] = {}
    for name, (answer, size) in answers.items():
        if answer.status not in EXPECTED:
            found[name] = (answer.status, answer.body[:200])
        elif answer.status == 200 and (wrong := undecodable(answer.body, size)):
            found[name] = wrong
    return found


def undecodable(body: bytes, size: tuple[int, int] | None) -> str:
    try:
        with Image.open(io.BytesIO(body)) as image:
            image.load()
            return "" if size in (None, image.size) else f"{image.size} instead of {size}"
    except Exception as error:
        return repr(error)


@pytest.mark.timeout(400)
def test_every_original_gets_an_image_or_a_clear_error(hostile: Hostile) -> None:
    def ask(numbered: tuple[int, str]) -> tuple[Answer, tuple[int, int] | None]:
        options, size = OPTIONS[numbered[0] % len(OPTIONS)]
        hostile.measure() if numbered[0] % 50 == 0 else None
        return hostile.server.ask(f"/img/{options}/{numbered[1]}"), size

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        answers = dict(zip(hostile.files, pool.map(ask, enumerate(hostile.files)), strict=True))

    assert faults(answers) == {}
    assert {answer.status for answer, _ in answers.values()} >= {200, 415, 422}
    assert_sound(hostile)


@pytest.mark.timeout(400)
def test_every_upload_gets_an_image_or_a_clear_error(hostile: Hostile) -> None:
    def post(name: str) -> tuple[Answer, tuple[int, int] | None]:
        body = hostile.files[name]
        fields = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
        return hostile.server.ask("/api/image/optimize", "POST", fields, body), None

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        answers = dict(zip(hostile.files, pool.map(post, hostile.files), strict=True))

    assert faults(answers) == {}
    assert_sound(hostile)


def assert_sound(hostile: Hostile) -> None:
    hostile.measure()
    server = hostile.server.process.pid
    assert hostile.deaths() == dict.fromkeys(KILLERS, 1)
    assert hostile.peaks[server] < SERVER_RSS_BYTES
    assert max(peak for pid, peak in hostile.peaks.items() if pid != server) < WORKER_RSS_BYTES
    assert hostile.temp_files() == []


@pytest.mark.parametrize("hostile", ["collected"], indirect=True)
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("pillow-heif__heif_other_pug.heic", 200),
        ("pillow-heif__heif_other_nokia_bird_burst.heic", 200),
        ("pillow-heif__heif_special_invalid_metadata_type.heic", 200),
        ("pillow-heif__heif_special_200MP.heic", 422),
        ("pillow-heif__heif_corrupted_corrupted.heic", 422),
        ("pillow-heif__heif_corrupted_empty.heic", 415),
        ("pillow__hopper_lzma.tif", 415),
        ("pillow__hopper.Lab.tif", 415),
        ("pillow__seek_too_large.tif", 422),
        ("pillow__tiff_overflow_rows_per_strip.tif", 422),
        ("pillow__pil_sample_cmyk.jpg", 200),
        ("pillow__icc_profile_big.jpg", 200),
        ("pillow__decompression_bomb.gif", 422),
    ],
)
def test_some_are_known(hostile: Hostile, name: str, status: int) -> None:
    assert hostile.server.ask(f"/img/w_40/{name}").status == status


# Images that Pillow shows differently, and why this server does not.
OTHERWISE: Mapping[str, str] = {
    "pillow__avif_xmp_tags_orientation.avif": "it is turned by XMP alone, which no browser does",
    "pillow__xmp_tags_orientation.png": "the same",
    "pillow__xmp_tags_orientation_exiftool.png": "the same",
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("hostile", ["collected"], indirect=True)
def test_an_image_looks_like_that_of_pillow(hostile: Hostile) -> None:
    """Scaled down: a black image, one that is upside down or has wrong colors would differ by more than half of all
    levels."""
    shown = {name: body for name, body in hostile.files.items() if comparable(name) and len(body) < 2 * MIB}
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        targets = (f"/img/c_scale,w_32,h_32,f_png/{name}" for name in shown)
        answers = dict(zip(shown, pool.map(hostile.server.ask, targets), strict=True))

    compared = {name: distance(answer.body, shown[name]) for name, answer in answers.items() if answer.status == 200}
    assert len([far for far in compared.values() if far is not None]) > 450
    assert {name for name, far in compared.items() if far is not None and far > 100} == set(OTHERWISE)


def comparable(name: str) -> bool:
    return name.rpartition(".")[2] in ("png", "jpg", "gif", "webp", "avif", "tif", "tiff", "heic", "heif", "hif", "mpo")


def distance(body: bytes, original: bytes) -> int | None:
    """The largest difference of a channel of any of 8 × 8 fields, on gray; None if Pillow cannot read the file."""
    try:
        with Image.open(io.BytesIO(original)) as expected:
            if expected.mode.startswith(("I", "F")) or min(expected.size) < 8:  # no white, or nothing to see from afar
                return None
            fields = fielded(ImageOps.exif_transpose(expected))
    except Exception:
        return None
    with Image.open(io.BytesIO(body)) as image:
        pairs = zip(fielded(image), fields, strict=True)
        return max(abs(a - b) for a, b in pairs)


def fielded(image: Image.Image) -> bytes:
    square = image.convert("RGBA").resize((32, 32), Image.Resampling.BOX)
    gray = Image.new("RGBA", square.size, (128, 128, 128, 255))
    return Image.alpha_composite(gray, square).convert("RGB").resize((8, 8), Image.Resampling.BOX).tobytes()
