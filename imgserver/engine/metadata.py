"""Which metadata a result keeps: none by default; never the place, the thumbnail or the orientation.

The savers of libvips write all metadata of an image, GPS included. So the image is stripped first, and the saver gets
flags for what it may write.
"""

import re

from imgserver.engine.vips import Image, names_of
from imgserver.plan.plan import Output

# Flags of VipsForeignKeep.
EXIF, XMP, IPTC, ICC, OTHER = 1, 2, 4, 8, 16

CREDITS = frozenset({"exif-ifd0-Copyright", "exif-ifd0-Artist"})
# IFD 1 describes the embedded thumbnail, IFD 3 the place.
PRIVATE = ("exif-ifd1-", "exif-ifd3-", "jpeg-thumbnail-data", "gainmap")
# A block of XMP is not edited: one that holds a place, a serial number or an owner is removed as a whole.
XMP_PRIVATE = re.compile(rb"(?i)gps|location|city|country|state|latitude|longitude|geo|serial|ownername")
# The IPTC datasets of record 2 that name a place: content location, city, sublocation, state, country.
IPTC_PLACE = re.compile(rb"\x1c\x02[\x1a\x1b\x5a\x5c\x5f\x64\x65]")
# A maker note holds serial numbers; the notes of some makers also hold the place.
SERIALS = re.compile(r"MakerNote|SerialNumber|OwnerName|ImageUniqueID|HostComputer|GPS")


def stripped(image: Image, output: Output) -> tuple[Image, int]:
    """The image with only the metadata that `output` keeps, and the keep flags for its encoder."""
    image = image.copy()
    # The savers of TIFF and AVIF write the orientation outside EXIF, whatever the flags say. It has been applied, or
    # ignored on purpose.
    image.remove("orientation")
    keep = ICC if output.profile == "keep" else 0
    names = names_of(image) if output.metadata != "none" else ()
    if not names:
        # With keep=0 the saver writes no metadata; removing all other fields would only cost time.
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
    # libvips builds a new block from the remaining fields; the old block holds the thumbnail.
    if name == "exif-data":
        return False
    if name == "xmp-data":
        return not XMP_PRIVATE.search(bytes(image.get(name)))
    return name != "iptc-data" or not IPTC_PLACE.search(bytes(image.get(name)))


def _is_metadata(name: str) -> bool:
    return name.startswith(
        ("exif-", "xmp-", "iptc-", "jpeg-thumbnail", "png-comment", "gif-comment", "image-description")
    )
