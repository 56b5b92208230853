"""What an upload brings: pictures into files, fields into text. A form with `image` in it, or the picture itself."""

import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import hdrs, web
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from imgserver.errors import BadRequest, BodyTooLarge, UnsupportedImage
from imgserver.rendering.upload_admission import UploadSettings
from imgserver.web.uploads.body import Body
from imgserver.web.uploads.temp_files import TempFile, TempFiles

FORM = "multipart/form-data"
PICTURE_FIELD = "image"
PART_HEADER_BYTES = 8 * 1024
PART_HEADERS = 16
FIELD_BYTES = 4 * 1024
NAME_LENGTH = 64
SHOWN_NAME_LENGTH = 100
# Of letters, digits and marks (RFC 2046, 5.1.1).
BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
UNENCODED = frozenset({"7bit", "8bit", "binary"})
UNPRINTABLE = re.compile(r"[^\w !#-.:-~]")


@dataclass(frozen=True, slots=True)
class Picture:
    """`name` is what the client calls it: a text to show, and nothing else."""

    name: str
    file: TempFile


@dataclass(slots=True)
class ReceivedUpload:
    """`pictures` and `fields` in the order they came; closes its files whatever happens inside the `async with`."""

    temp_files: TempFiles
    settings: UploadSettings
    pictures: list[Picture] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)

    async def __aenter__(self) -> "ReceivedUpload":
        return self

    async def __aexit__(self, *_: object) -> None:
        for picture in self.pictures:
            picture.file.close()

    async def take(self, kind: "BodyFormat", body: Body) -> None:
        """Reads the whole body. Raises what `Body.read` raises; BadRequest, BodyTooLarge, UnsupportedImage; and
        Unavailable when there is no space."""
        if kind.boundary is None:
            await self._take_picture(body)
        else:
            await self._take_form(kind.boundary, body)
        if not self.pictures:
            raise BadRequest(f"No picture came: a form sends it in the field {PICTURE_FIELD}")

    async def _take_picture(self, body: Body) -> None:
        file = await self._open("")
        while data := await body.read():
            await file.write(data)

    async def _take_form(self, boundary: str, body: Body) -> None:
        parser: Any = PushMultipartParser(
            boundary,
            max_header_size=PART_HEADER_BYTES,
            max_header_count=PART_HEADERS,
            max_segment_count=self.settings.max_parts,
        )
        try:
            with parser:
                sink: Sink | None = None
                data = await _beginning(boundary, body)
                while data:
                    for event in parser.parse(data):
                        if isinstance(event, MultipartSegment):
                            sink = await self._begun(event)
                        elif event is None:
                            self._ended(sink)
                        elif sink is not None:
                            await sink.write(event)
                    data = await body.read()
        except ParserLimitReached as error:
            raise BodyTooLarge(f"The form is over a limit: {error}", limit="form") from error
        except MultipartError as error:
            raise BadRequest(f"The form is not well formed: {error}") from error

    async def _begun(self, part: MultipartSegment) -> "Sink":
        name = part.name or ""
        _check(part, name)
        if name == PICTURE_FIELD:
            return await self._open(shown(part.filename or ""))
        if part.filename is not None:
            raise BadRequest(f"A file is sent in the field {PICTURE_FIELD}", value=name[:NAME_LENGTH])
        return Field(name)

    def _ended(self, sink: "Sink | None") -> None:
        if isinstance(sink, Field):
            self.fields.append((sink.name, sink.text()))

    async def _open(self, name: str) -> TempFile:
        file = await self.temp_files.open()
        self.pictures.append(Picture(name, file))
        return file


async def _beginning(boundary: str, body: Body) -> bytes:
    """What came first, with the first boundary in it. A text before that, which RFC 2046 allows and nobody sends, the
    parser takes or refuses by where the network happens to cut it."""
    delimiter, begun = b"--" + boundary.encode(), b""
    while len(begun) < len(delimiter) + 2 and (data := await body.read()):
        begun += data
    if not begun.removeprefix(b"\r\n").startswith(delimiter):
        raise BadRequest("The form is not well formed: it begins with its boundary")
    return begun


class Field:
    """A field that is no file: a short text."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._value = bytearray()

    async def write(self, data: bytes) -> None:
        self._value += data
        if len(self._value) > FIELD_BYTES:
            raise BodyTooLarge(f"{self.name}: the field is over {FIELD_BYTES} bytes", limit="field")

    def text(self) -> str:
        try:
            return self._value.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"{self.name}: the field is not UTF-8") from None


Sink = TempFile | Field


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """How a body is to be read: a form, by its boundary, or a picture."""

    boundary: str | None

    @classmethod
    def of(cls, request: web.Request) -> "BodyFormat":
        """Raises UnsupportedImage, and BadRequest for a form without a boundary."""
        media_type, options = parse_options_header(request.headers.get(hdrs.CONTENT_TYPE, ""))
        if media_type == FORM:
            boundary = options.get("boundary", "")
            if not BOUNDARY.fullmatch(boundary):
                raise BadRequest("Content-Type: multipart/form-data needs a boundary of 1-70 characters (RFC 2046)")
            return cls(boundary)
        if media_type.startswith("image/") or media_type == "application/octet-stream":
            return cls(None)
        raise UnsupportedImage(
            f"Content-Type: {FORM} with the field {PICTURE_FIELD}, or image/* or application/octet-stream "
            "with the picture itself as the body"
        )


def shown(name: str) -> str:
    """A client's file name as it may be shown: its last part, cut, without anything that could be read as control."""
    last = re.split(r"[/\\]", name)[-1]
    return UNPRINTABLE.sub("_", last)[:SHOWN_NAME_LENGTH]


def _check(part: MultipartSegment, name: str) -> None:
    # The parser refuses a bare line feed only where the network happens to cut the line behind it.
    if any("\n" in value or "\n" in key for key, value in part.headerlist):
        raise BadRequest("The form is not well formed: a line break within a part's header")
    if sum(len(key) + len(value) + 4 for key, value in part.headerlist) > PART_HEADER_BYTES:
        raise BodyTooLarge(f"A part's header is over {PART_HEADER_BYTES} bytes", limit="part header")
    if not 1 <= len(name) <= NAME_LENGTH:
        raise BadRequest(f"A field's name has 1-{NAME_LENGTH} characters")
    transfer = (part.header("Content-Transfer-Encoding") or "binary").strip().lower()
    if part.header("Content-Encoding") or transfer not in UNENCODED:
        raise UnsupportedImage("A part is taken as it is, not compressed or encoded")
