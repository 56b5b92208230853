"""Which metadata is in the bytes of the result."""

from io import BytesIO
from typing import Any

import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from imgserver.plan.plan import Fit, Orient, Px
from tests.engine.conftest import Renderer, opened, saved
from tests.heic_files import heic

PLANTED = {
    "camera": b"PlantedCamera",
    "serial": b"PlantedSerial",
    "owner": b"PlantedOwner",
    "place": b"PlantedPlace",
    "comment": b"PlantedComment",
    "xmp": b"PlantedXmp",
    "artist": b"PlantedArtist",
    "copyright": b"PlantedCopyright",
}
SECRET = ("serial", "owner", "place")
FIT = Fit(Px(40))
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a note="PlantedXmp" exif:GPSLatitude="PlantedPlace"/></x:xmpmeta>'


def exif(orientation: int = 6) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Model] = PLANTED["camera"].decode()
    tags[ExifTags.Base.Artist] = PLANTED["artist"].decode()
    tags[ExifTags.Base.Copyright] = PLANTED["copyright"].decode()
    details = tags.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.BodySerialNumber] = PLANTED["serial"].decode()
    details[ExifTags.Base.CameraOwnerName] = PLANTED["owner"].decode()
    place = tags.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef] = "N"
    place[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    place[ExifTags.GPS.GPSAreaInformation] = PLANTED["place"]
    return tags


def original(name: str, orientation: int = 6) -> bytes:
    image = Image.new("RGB", (80, 60), (200, 120, 40))
    options: dict[str, Any] = {"exif": exif(orientation).tobytes()}
    if name == "PNG":
        text = PngInfo()
        text.add_text("Comment", PLANTED["comment"].decode())
        text.add_itxt("Description", PLANTED["comment"].decode(), zip=True)
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return saved(image, name, pnginfo=text, **options)
    if name == "HEIF":
        return heic(image, xmp=XMP, **options)
    if name in ("JPEG", "WEBP", "AVIF"):
        options["xmp"] = XMP
    if name == "TIFF":
        # Pillow adds its own fields to those of `exif`.
        options["exif"] = exif(orientation)
    if name == "JPEG":
        options["comment"] = PLANTED["comment"]
    return saved(image, name, **options)


def found(body: bytes) -> set[str]:
    return {name for name, word in PLANTED.items() if word in body}


SOURCES = ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"]
TARGETS = ["jpg", "png", "webp", "avif", "tiff", "gif"]
# libvips neither reads nor writes this metadata in that format.
NO_EXIF = ("tiff", "gif")


@pytest.mark.parametrize("name", SOURCES)
def test_the_original_contains_the_metadata(name: str) -> None:
    assert found(original(name)) >= (
        {"camera", "artist", "copyright"} if name == "TIFF" else set(PLANTED) - {"comment", "xmp"}
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_no_metadata_is_kept_by_default(draw: Renderer, source: str, target: str, orientation: int) -> None:
    body = draw(original(source, orientation), Orient(), FIT, format=target).body

    assert found(body) == set()
    assert not [tag for tag in opened(body).getexif() if target != "tiff"]
    assert opened(body).size == ((40, 30) if orientation < 5 else (40, 53))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_copyright_keeps_author_and_copyright_only(draw: Renderer, source: str, target: str) -> None:
    body = draw(original(source), Orient(), FIT, format=target, metadata="copyright").body

    assert found(body) <= {"artist", "copyright"}
    if source == "TIFF" or target in NO_EXIF:
        return
    tags = opened(body).getexif()
    assert tags[ExifTags.Base.Artist].startswith("PlantedArtist")
    assert tags[ExifTags.Base.Copyright].startswith("PlantedCopyright")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_all_keeps_the_camera_but_no_place_serial_or_orientation(
    draw: Renderer, source: str, target: str, orientation: int
) -> None:
    body = draw(original(source, orientation), Orient(), FIT, format=target, metadata="all").body

    assert not found(body) & set(SECRET)
    tags = opened(body).getexif()
    assert tags.get(ExifTags.Base.Orientation, 1) == 1
    assert not tags.get_ifd(ExifTags.IFD.GPSInfo)
    if source == "TIFF" or target in NO_EXIF:
        return
    assert tags[ExifTags.Base.Model].startswith("PlantedCamera")
    assert tags.get(ExifTags.Base.Orientation, 1) == 1
    assert not tags.get_ifd(ExifTags.IFD.GPSInfo)


def test_xmp_without_a_place_is_kept_by_all(draw: Renderer) -> None:
    harmless = XMP.replace(b'exif:GPSLatitude="PlantedPlace"', b"")
    image = saved(Image.new("RGB", (80, 60)), "JPEG", xmp=harmless)

    assert b"PlantedXmp" in draw(image, FIT, metadata="all").body
    assert b"PlantedXmp" not in draw(original("JPEG"), FIT, metadata="all").body


def test_the_thumbnail_in_exif_is_dropped(draw: Renderer) -> None:
    thumbnail = saved(Image.new("RGB", (16, 12), (0, 255, 0)), "JPEG", comment=b"PlantedThumbnail")
    tags = exif(1)
    with_thumbnail = tags.tobytes()
    image = saved(Image.new("RGB", (80, 60)), "JPEG", exif=with_thumbnail + thumbnail)

    for metadata in ("none", "copyright", "all"):
        assert b"PlantedThumbnail" not in draw(image, FIT, metadata=metadata).body


def test_info_names_no_person_place_or_camera(draw: Renderer) -> None:
    from imgserver.plan.plan import Terminal

    assert found(draw(original("JPEG"), terminal=Terminal("info")).body) == set()


def test_placeholders_have_no_metadata(draw: Renderer) -> None:
    from base64 import b64decode

    from imgserver.plan.plan import Terminal

    body = draw(original("JPEG"), terminal=Terminal("lqip"), metadata="all").body
    assert found(b64decode(body.split(b",")[1])) == set()
    assert Image.open(BytesIO(b64decode(body.split(b",")[1]))).size == (48, 36)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("key", ["Raw profile type exif", "Comment", "Location", "K\xe9y"])
def test_the_texts_of_a_png_are_dropped(draw: Renderer, key: str, target: str) -> None:
    """Older tools write all of EXIF as a hexadecimal text."""
    text = PngInfo()
    text.add(b"tEXt", key.encode("latin-1") + b"\0" + PLANTED["comment"] + PLANTED["place"].hex().encode())
    image = saved(Image.new("RGB", (80, 60)), "PNG", pnginfo=text)

    for metadata in ("none", "copyright", "all"):
        body = draw(image, FIT, format=target, metadata=metadata).body
        assert found(body) == set()
        assert PLANTED["place"].hex().encode() not in body


@pytest.mark.parametrize("word", [b'aux:SerialNumber="PlantedSerial"', b'aux:OwnerName="PlantedOwner"'])
def test_xmp_that_names_the_camera_or_its_owner_is_dropped(draw: Renderer, word: bytes) -> None:
    xmp = XMP.replace(b'exif:GPSLatitude="PlantedPlace"', word)
    image = saved(Image.new("RGB", (80, 60)), "JPEG", xmp=xmp)

    assert found(draw(image, FIT, metadata="all").body) == set()


def test_the_comment_of_a_gif_is_dropped(draw: Renderer) -> None:
    image = saved(Image.new("RGB", (80, 60)), "GIF", comment=PLANTED["comment"])

    for metadata in ("none", "copyright", "all"):
        assert found(draw(image, FIT, format="gif", metadata=metadata).body) == set()
