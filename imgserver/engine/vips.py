"""The only importer of pyvips. Prepares libvips for hostile input, and translates its errors.

A `pyvips.Error` must never leave the worker: unpickling it would import libvips into the server. The messages of
libvips contain file names, so they stay in the cause (for the log) and never enter the public text.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pyvips
from pyvips import Error as Error
from pyvips import Image as Image

from imgserver.engine.encoders import ENCODERS
from imgserver.engine.job import Codecs
from imgserver.errors import (
    BrokenImage,
    ImageOverLimit,
    ImgserverError,
    NotFound,
    ServerFault,
    Unavailable,
    UnsupportedImage,
    is_absence,
)
from imgserver.runtime import resources

# Earlier versions of libvips have memory faults with hostile files (CVE-2026-33327 and later ones).
MIN_VERSION = (8, 18, 3)

# The loaders that untrusted files may reach: class and operation. All other loaders stay blocked.
LOADERS = {
    "jpg": ("VipsForeignLoadJpeg", "jpegload"),
    "png": ("VipsForeignLoadPng", "pngload"),
    "webp": ("VipsForeignLoadWebp", "webpload"),
    "gif": ("VipsForeignLoadNsgif", "gifload"),
    "avif": ("VipsForeignLoadHeif", "heifload"),
    "tiff": ("VipsForeignLoadTiff", "tiffload"),
    "svg": ("VipsForeignLoadSvg", "svgload"),
    # Reads only the header; engine/heif.py decodes the pixels.
    "heic": ("VipsForeignLoadHeif", "heifload"),
}
# Formats of which libvips gets pixels, from engine/bitmap.py.
BITMAPS = ("bmp", "ico")
# The types of metadata fields.
GInt = pyvips.GValue.gint_type
GInts = pyvips.GValue.array_int_type
Blob = pyvips.GValue.blob_type

# Parts of error messages about originals that are valid but cannot be read here. libvips says the last one of every
# TIFF in Lab.
UNSUPPORTED = (
    "not supported",
    "unsupported",
    "not configured",
    "not been built in",
    "not a whole number of bytes",
    "bad labq format",
)
# Bytes left over before a restart marker of a JPEG: the interval before it could not be decoded. Before the end marker
# they are no damage, because cameras pad there.
LOST_INTERVAL = re.compile(r"extraneous bytes before marker 0xd[0-7]")
# Parts of messages about pixels that are missing, or that cannot be decoded: warnings of the JPEG decoder, then errors
# and warnings of libtiff, which libvips does not raise. Bytes that are left over are no damage.
DAMAGE = (
    "premature end of",
    "bad huffman code",
    "bad arithmetic code",
    "instead of rst",
    "read error at",
    "seek error at",
    "not enough data",
    "strip byte count",
    "code not yet in table",
    "corrupted lzw table",
    "not terminated with eoi",
    "decoding error",
    "zlib error",
    "bad code word",
    "premature eof",
    "(got 0, expected",
    "unable to decode webp",
)
# A file that causes more warnings is not examined further.
MAX_WARNINGS = 1_000
OUT_OF_MEMORY = ("out of memory", "unable to allocate", "cannot allocate", "memory limit", "memory allocation")
NO_SPACE = ("no space left", "disk quota exceeded", "read-only file system", 'unable to write to "')
NO_SPACE_RETRY_SECONDS = 10


def open_engine(*, svg: bool = False) -> Codecs:
    """Limits libvips to the allowed formats, one thread and no caches. Call once, before the first render.

    Returns what can be read and written. Raises ServerFault if libvips is older than MIN_VERSION.
    """
    version = tuple(pyvips.version(part) for part in range(3))
    if version < MIN_VERSION:
        found, least = (".".join(map(str, numbers)) for numbers in (version, MIN_VERSION))
        raise ServerFault(f"libvips {found} has known vulnerabilities; at least {least} is needed")
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name, (loader, _) in LOADERS.items():
        pyvips.operation_block_set(loader, name == "svg")
    # Also blocks untrusted loaders that are not below VipsForeignLoad. SVG is one of them.
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoadSvg", not svg)
    # Each job is a different image: a cache of operations would only use memory.
    for limit in (pyvips.cache_set_max, pyvips.cache_set_max_mem, pyvips.cache_set_max_files):
        limit(0)
    # One worker uses one core. The bytes of an AVIF also depend on the number of threads.
    pyvips.vips_lib.vips_concurrency_set(1)
    _warnings.listen()
    codecs.cache_clear()
    return codecs()


@cache
def codecs() -> Codecs:
    """What this process can read and write."""
    version = ".".join(str(pyvips.version(part)) for part in range(3))
    read = tuple(name for name, (_, operation) in LOADERS.items() if _exists(operation) and _has_decoder(name))
    write = tuple(name for name, encoder in ENCODERS.items() if not encoder.operation or _exists(encoder.operation))
    return Codecs(version, (*read, *BITMAPS), write)


def _has_decoder(name: str) -> bool:
    return name != "heic" or resources.reads_heic()


def _exists(operation: str) -> bool:
    return bool(pyvips.type_find("VipsOperation", operation))


def loaded(name: str, data: bytes | bytearray, **options: Any) -> Image:
    """The image of a file in memory, opened lazily. `options` are the loader's. Raises Error."""
    image = getattr(Image, LOADERS[name][1] + "_source")(pyvips.Source.new_from_memory(data), **options)
    # pyvips keeps what an image reads from only for as long as the images that are made of it know it.
    image._references.append(data)
    return image


def names_of(image: Image) -> frozenset[str]:
    """The names of the metadata fields; empty if one of them is not UTF-8: a file may give its comments any name."""
    try:
        return frozenset(image.get_fields())
    except UnicodeDecodeError:
        return frozenset()


def text_of(image: Image, name: str) -> str:
    """A metadata field as text; "" if it is not UTF-8."""
    try:
        return str(image.get(name))
    except UnicodeDecodeError:
        return ""


@cache
def interpolator(name: str) -> pyvips.Interpolate:
    return pyvips.Interpolate.new(name)


@contextmanager
def reading() -> Iterator[None]:
    """Translates errors of code that reads the original's header or pixels: a fault there means a broken original, and
    an error of the operating system one that is absent or cannot be read for now.

    Raises NotFound, BrokenImage, UnsupportedImage, ImageOverLimit, Unavailable and ServerFault.
    """
    try:
        with _translated(BrokenImage("the source is truncated or corrupt")):
            yield
            refuse_damage()
    except OSError as error:
        if is_absence(error):
            raise NotFound("the source is gone") from error
        raise Unavailable("the source cannot be read now", reason="source", retry_after=1) from error


class _Warnings(logging.Filter):
    """Looks for damage in the warnings that libvips logs. No warning is written to the log of the server."""

    def __init__(self) -> None:
        super().__init__()
        self._logger = logging.getLogger("pyvips")
        self._count = 0
        self.damaged = False

    def listen(self) -> None:
        """Begins to count again."""
        self._count, self.damaged = 0, False
        if self not in self._logger.filters:
            self._logger.addFilter(self)
        if self._logger.level != logging.WARNING:
            self._logger.setLevel(logging.WARNING)

    def filter(self, record: logging.LogRecord) -> bool:
        self._count += 1
        self.damaged = self.damaged or is_damage(record.getMessage())
        if self.damaged or self._count >= MAX_WARNINGS:
            # A hostile file can cause many thousands of warnings.
            self._logger.setLevel(logging.ERROR)
        return False


_warnings = _Warnings()


def is_damage(text: str) -> bool:
    text = text.lower()
    return any(sign in text for sign in DAMAGE) or LOST_INTERVAL.search(text) is not None


def forget_warnings() -> None:
    """Clears the warnings of the decoders so far."""
    pyvips.vips_lib.vips_error_clear()
    _warnings.listen()


def refuse_damage() -> None:
    """Raises BrokenImage if a decoder reported missing pixels since the last `forget_warnings`.

    It shows them in gray, black or white, and libvips reports success, whatever `fail_on` says.
    """
    reported = pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer())
    if _warnings.damaged or (reported and is_damage(reported.decode(errors="replace"))):
        forget_warnings()
        raise BrokenImage("the source is truncated or corrupt")


@contextmanager
def working() -> Iterator[None]:
    """Translates errors of code that only builds pipelines or encodes: a fault there is ours.

    Raises ServerFault, ImageOverLimit and Unavailable.
    """
    with _translated(ServerFault("the image could not be rendered")):
        yield


@contextmanager
def _translated(fault: ImgserverError) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise _too_large() from error
    except Error as error:
        raise _translate_text(str(error).lower(), fault) from error


def _translate_text(text: str, fault: ImgserverError) -> ImgserverError:
    if any(sign in text for sign in OUT_OF_MEMORY):
        return _too_large()
    # libvips decodes an image of more than 100 MB that is read more than once into a temporary file. A full disk is no
    # fault of the original.
    if any(sign in text for sign in NO_SPACE):
        return Unavailable(
            "There is no disk space to decode this image now", reason="space", retry_after=NO_SPACE_RETRY_SECONDS
        )
    if isinstance(fault, BrokenImage) and any(sign in text for sign in UNSUPPORTED):
        return UnsupportedImage("an image of this kind cannot be read here")
    # The plan read a streamed image twice: that is no fault of the original.
    return ServerFault("the image could not be rendered") if "out of order" in text else fault


def _too_large() -> ImageOverLimit:
    return ImageOverLimit("the image needs more memory than one render may use", limit="memory")
