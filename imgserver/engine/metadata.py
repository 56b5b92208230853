"""What travels with the pixels: nothing by default; never where, with which camera's thumbnail, or which way up.

libvips' savers write whatever metadata the image carries, GPS included, so the image is stripped first and the saver
is told what it may write.
"""

import re

from imgserver.engine.vips import Image, names_of
from imgserver.plan.plan import Output

# Flags of VipsForeignKeep.
EXIF, XMP, IPTC, ICC, OTHER = 1, 2, 4, 8, 16

CREDITS = frozenset({"exif-ifd0-Copyright", "exif-ifd0-Artist"})
# IFD 1 describes the embedded thumbnail, IFD 3 the place.
PRIVATE = ("exif-ifd1-", "exif-ifd3-", "jpeg-thumbnail-data", "gainmap")
# A block of XMP is not taken apart: one that tells a place, a serial number or an owner goes as a whole.
XMP_PRIVATE = re.compile(rb"(?i)gps|location|city|country|state|latitude|longitude|geo|serial|ownername")
# IPTC's datasets of record 2 that name a place: content location, city, sublocation, state, country.
IPTC_PLACE = re.compile(rb"\x1c\x02[\x1a\x1b\x5a\x5c\x5f\x64\x65]")
# A maker's note holds serial numbers, and some makers' also the place.
SERIALS = re.compile(r"MakerNote|SerialNumber|OwnerName|ImageUniqueID|HostComputer|GPS")


def stripped(image: Image, output: Output) -> tuple[Image, int]:
    """The image with only the metadata it may keep, and the saver's keep flags."""
    image = image.copy()
    # TIFF and AVIF write it outside EXIF, whatever they are told to keep; it has been applied, or ignored on purpose.
    image.remove("orientation")
    keep = ICC if output.profile == "keep" else 0
    names = names_of(image) if output.metadata != "none" else ()
    if not names:
        # With `keep` 0 the saver writes nothing; removing each other field would only cost time.
        return image, keep
    for name in names:
        if not _kept(image, name, output.metadata):
            image.remove(name)
    return image, keep | (EXIF if output.metadata == "copyright" else EXIF | XMP | IPTC | OTHER)


def _kept(image: Image, name: str, metadata: str) -> bool:
    if metadata == "copyright":
        return name in CREDITS or not _is_metadata(name)
    if name.startswith(PRIVATE) or SERIALS.search(name) or name.endswith("-Orientation"):
        return False
    # libvips builds a new block of the fields that are left; the old one holds the thumbnail.
    if name == "exif-data":
        return False
    if name == "xmp-data":
        return not XMP_PRIVATE.search(bytes(image.get(name)))
    return name != "iptc-data" or not IPTC_PLACE.search(bytes(image.get(name)))


def _is_metadata(name: str) -> bool:
    return name.startswith(
        ("exif-", "xmp-", "iptc-", "jpeg-thumbnail", "png-comment", "gif-comment", "image-description")
    )
