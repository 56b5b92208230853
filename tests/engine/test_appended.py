"""What a file holds besides its image is named; previews of the same image do not count."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from imgserver.engine.appended import left_out
from tests.avif_files import Item, coded, container
from tests.engine.conftest import Renderer, saved

IMAGE = Image.effect_noise((64, 48), 60).convert("RGB")
PLAIN = saved(IMAGE, "JPEG")
SMALL = saved(IMAGE.resize((16, 12)), "JPEG")
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"


def indexed(kind: int, order: str = "<") -> bytes:
    """A JPEG with an index of two pictures (CIPA DC-007, 5.2), of which the second has this type."""
    entries = struct.pack(order + "IIIHH", 0x030000, 0, 0, 0, 0) + struct.pack(order + "IIIHH", kind, 0, 0, 0, 0)
    directory = struct.pack(order + "HHHII", 1, 0xB002, 7, len(entries), 26) + bytes(4)
    block = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8) + directory + entries
    segment = b"MPF\0" + block
    return PLAIN[:2] + struct.pack(">HH", 0xFFE2, len(segment) + 2) + segment + PLAIN[2:] + SMALL


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(PLAIN, "", id="nothing"),
        pytest.param(PLAIN + b"\0" * 5000, "", id="padding"),
        pytest.param(PLAIN + b"some text", "", id="text"),
        pytest.param(saved(IMAGE, "JPEG", exif=b"Exif\0\0" + SMALL), "", id="a thumbnail in the metadata"),
        pytest.param(PLAIN + SMALL, "a second picture", id="a picture without an index"),
        pytest.param(saved(IMAGE, "MPO", save_all=True, append_images=[IMAGE]), "a second picture", id="mpo"),
        pytest.param(indexed(0), "a second picture", id="a gain map"),
        pytest.param(indexed(0x020002, ">"), "a second picture", id="a stereo pair"),
        pytest.param(indexed(0x010001), "", id="a preview"),
        pytest.param(indexed(0x010002, ">"), "", id="a large preview"),
        pytest.param(PLAIN + VIDEO, "a video", id="video"),
        pytest.param(PLAIN + b"MotionPhoto_Data" + VIDEO + SMALL, "a video", id="video and picture"),
        pytest.param(saved(IMAGE, "JPEG", progressive=True) + SMALL, "a second picture", id="progressive"),
        pytest.param(indexed(0x010001).replace(b"II*\0\x08", b"II*\0\xff"), "a second picture", id="a broken index"),
    ],
)
def test_what_follows_the_image_is_named(tmp_path: Path, data: bytes, expected: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)

    assert left_out(str(tmp_path / "a.jpg"), "jpg") == expected


def test_the_gain_map_of_an_avif_is_named(draw: Renderer, tmp_path: Path) -> None:
    gain = replace(coded(IMAGE.convert("L").resize((32, 24))), hidden=True)
    extent = (b"ispe", struct.pack(">III", 0, *IMAGE.size))
    mapped = container([coded(IMAGE), gain, Item(bytes(60), (extent,), b"tmap")], (b"dimg", 3, (1, 2)))
    for name, body in (("mapped", mapped), ("plain", saved(IMAGE, "AVIF"))):
        (tmp_path / name).write_bytes(body)

    assert left_out(str(tmp_path / "mapped"), "avif") == "a gain map"
    assert left_out(str(tmp_path / "plain"), "avif") == ""
    assert draw.image(mapped).size == IMAGE.size
