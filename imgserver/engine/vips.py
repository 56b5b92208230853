"""The airlock: the only importer of pyvips. Opens libvips for hostile input and translates its errors.

A raw `pyvips.Error` must never leave the worker: unpickling one would import libvips into the server. libvips'
messages contain file names, so they stay in the cause (for the log) and never enter the public text.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pyvips
from pyvips import Error as Error
from pyvips import Image as Image

from imgserver.engine.job import Codecs
from imgserver.errors import (
    BrokenImage,
    ImageOverLimit,
    ImgserverError,
    ServerFault,
    Unavailable,
    UnsupportedImage,
)
from imgserver.runtime import resources

# Earlier libvips decodes hostile files into memory faults (CVE-2026-33327 and its followers).
FLOOR = (8, 18, 3)

# What strangers' bytes may reach. The loaders of each class are unblocked by name; everything else stays shut.
LOADERS = {
    "jpg": ("VipsForeignLoadJpeg", "jpegload"),
    "png": ("VipsForeignLoadPng", "pngload"),
    "webp": ("VipsForeignLoadWebp", "webpload"),
    "gif": ("VipsForeignLoadNsgif", "gifload"),
    "avif": ("VipsForeignLoadHeif", "heifload"),
    "tiff": ("VipsForeignLoadTiff", "tiffload"),
    "svg": ("VipsForeignLoadSvg", "svgload"),
    # Its header only; its pixels are decoded by engine/heif.py.
    "heic": ("VipsForeignLoadHeif", "heifload"),
}
SAVERS = {
    "jpg": "jpegsave_buffer",
    "png": "pngsave_buffer",
    "webp": "webpsave_buffer",
    "gif": "gifsave_buffer",
    "avif": "heifsave_buffer",
    "tiff": "tiffsave_buffer",
}
# Types for metadata that is set on an image.
GInt = pyvips.GValue.gint_type
GInts = pyvips.GValue.array_int_type
Blob = pyvips.GValue.blob_type

# Of sources: what they are is known and not done, and nothing about them need be broken. The last is what this libvips
# says of every TIFF in Lab.
UNSUPPORTED = (
    "not supported",
    "unsupported",
    "not configured",
    "not been built in",
    "not a whole number of bytes",
    "bad labq format",
)
OUT_OF_MEMORY = ("out of memory", "unable to allocate", "cannot allocate", "memory limit", "memory allocation")
NO_ROOM = ("no space left", "disk quota exceeded", "read-only file system", 'unable to write to "')
ROOM_SECONDS = 10


def open_engine(*, svg: bool = False) -> Codecs:
    """Closes libvips to all but the allowed formats, one thread, no caches. Call once, before the first render.

    Raises ServerFault if libvips is older than the floor.
    """
    version = tuple(pyvips.version(part) for part in range(3))
    if version < FLOOR:
        found, floor = (".".join(map(str, numbers)) for numbers in (version, FLOOR))
        raise ServerFault(f"libvips {found} has known holes; at least {floor} is needed")
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name, (loader, _) in LOADERS.items():
        pyvips.operation_block_set(loader, name == "svg")
    # Also shuts untrusted loaders that the class tree above may not know; SVG counts among them.
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoadSvg", not svg)
    # Each render is another picture: what a cache keeps is only memory.
    for limit in (pyvips.cache_set_max, pyvips.cache_set_max_mem, pyvips.cache_set_max_files):
        limit(0)
    # One worker is one core; AVIF's bytes also differ with the number of threads.
    pyvips.vips_lib.vips_concurrency_set(1)
    # A hostile file can make libvips warn a thousand times; what fails is told by errors.
    logging.getLogger("pyvips").setLevel(logging.ERROR)
    codecs.cache_clear()
    return codecs()


@cache
def codecs() -> Codecs:
    version = ".".join(str(pyvips.version(part)) for part in range(3))
    read = tuple(name for name, (_, operation) in LOADERS.items() if _exists(operation) and _is_decoded(name))
    write = tuple(name for name, operation in SAVERS.items() if _exists(operation))
    return Codecs(version, read, write)


def _is_decoded(name: str) -> bool:
    return name != "heic" or resources.reads_heic()


def _exists(operation: str) -> bool:
    return bool(pyvips.type_find("VipsOperation", operation))


def names_of(image: Image) -> frozenset[str]:
    """The names of its fields; none if one is no text: files name their comments and items as they like."""
    try:
        return frozenset(image.get_fields())
    except UnicodeDecodeError:
        return frozenset()


def text_of(image: Image, name: str) -> str:
    """A field as text; "" if it is none."""
    try:
        return str(image.get(name))
    except UnicodeDecodeError:
        return ""


@cache
def interpolator(name: str) -> pyvips.Interpolate:
    return pyvips.Interpolate.new(name)


@contextmanager
def reading() -> Iterator[None]:
    """Around what touches the source's pixels or header: a fault there is the source's."""
    with _translated(BrokenImage("the source is truncated or corrupt")):
        yield


@contextmanager
def working() -> Iterator[None]:
    """Around what only builds or encodes: a fault there is ours."""
    with _translated(ServerFault("the picture could not be made")):
        yield


@contextmanager
def _translated(fault: ImgserverError) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise _too_large() from error
    except Error as error:
        raise _judged(str(error).lower(), fault) from error


def _judged(text: str, fault: ImgserverError) -> ImgserverError:
    if any(sign in text for sign in OUT_OF_MEMORY):
        return _too_large()
    # What is over 100 MB and read more than once lies in a temporary file: no fault of the source if that cannot be.
    if any(sign in text for sign in NO_ROOM):
        return Unavailable("There is no room to decode this picture now", reason="space", retry_after=ROOM_SECONDS)
    if isinstance(fault, BrokenImage) and any(sign in text for sign in UNSUPPORTED):
        return UnsupportedImage("a picture of this kind cannot be read here")
    # A plan of ours read a streamed picture twice; no source can be blamed for that.
    return ServerFault("the picture could not be made") if "out of order" in text else fault


def _too_large() -> ImageOverLimit:
    return ImageOverLimit("the picture needs more memory than one render may take", limit="memory")
