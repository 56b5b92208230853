"""Which originals a worker can read, judged by their first bytes. Safe to import anywhere: the server asks before a
request joins the queue for a worker, and the worker asks again."""

from imgserver.errors import UnsupportedImage
from imgserver.plan.foreign_files import CAMERA_RAW, is_camera_raw, kind_of
from imgserver.plan.formats import FORMATS
from imgserver.plan.sniffing import format_of
from imgserver.runtime import resources


def readable_format(head: bytes, *, svg: bool) -> str:
    """The format of a file that begins with `head`. `svg`: whether SVG is on. Raises UnsupportedImage."""
    if not head:
        raise UnsupportedImage("the source is empty")
    name = format_of(head)
    if not name:
        raise UnsupportedImage(f"{kind_of(head)} cannot be read here")
    if name == "svg" and not svg:
        raise UnsupportedImage("svg is not read here (limits.svg)", format=name)
    if name == "heic" and not resources.reads_heic():
        raise UnsupportedImage("heic is read only with the extra: pip install 'imgserver[heic]'", format=name)
    if name == "tiff" and is_camera_raw(head):
        raise UnsupportedImage(f"{CAMERA_RAW} cannot be read here", format=name)
    if not FORMATS[name].readable:
        raise UnsupportedImage(f"{name} cannot be read here", format=name)
    return name
