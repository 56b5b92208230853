"""Reads the body of an upload into temporary files: a form with images and text fields, or one image as the body."""

import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import hdrs, web
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from imgserver.errors import BadRequest, BodyTooLarge, UnsupportedImage
from imgserver.rendering.upload_admission import UploadSettings
from imgserver.web.uploads.body import UploadBody
from imgserver.web.uploads.temp_files import TempFile, TempFiles

FORM = "multipart/form-data"
IMAGE_FIELD = "image"
MAX_PART_HEADER_BYTES = 8 * 1024
MAX_PART_HEADERS = 16
MAX_FIELD_BYTES = 4 * 1024
MAX_FIELD_NAME_LENGTH = 64
MAX_FILE_NAME_LENGTH = 100
# RFC 2046, 5.1.1: 1-70 letters, digits and punctuation marks; the last one is not a space.
BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
IDENTITY_ENCODINGS = frozenset({"7bit", "8bit", "binary"})
UNPRINTABLE = re.compile(r"[^\w !#-.:-~]")


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """A form, when there is a boundary; otherwise one image."""

    boundary: str | None

    @classmethod
    def of(cls, request: web.Request) -> "BodyFormat":
        """From Content-Type. Raises UnsupportedImage, and BadRequest for a form without a valid boundary."""
        media_type, options = parse_options_header(request.headers.get(hdrs.CONTENT_TYPE, ""))
        if media_type == FORM:
            boundary = options.get("boundary", "")
            if not BOUNDARY.fullmatch(boundary):
                raise BadRequest("Content-Type: multipart/form-data needs a boundary of 1-70 characters (RFC 2046)")
            return cls(boundary)
        if media_type.startswith("image/") or media_type == "application/octet-stream":
            return cls(None)
        raise UnsupportedImage(
            f"Content-Type: must be {FORM} with the field {IMAGE_FIELD}, or image/* or application/octet-stream "
            "with the image itself as the body"
        )


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """`name` is the client's file name, made safe to display. It is used for nothing else."""

    name: str
    file: TempFile


@dataclass(slots=True)
class ReceivedUpload:
    """The images and the text fields of an upload, in their order. Closes its files at the end of the `async with`."""

    temp_files: TempFiles
    settings: UploadSettings
    images: list[UploadedImage] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)

    async def __aenter__(self) -> "ReceivedUpload":
        return self

    async def __aexit__(self, *_: object) -> None:
        for image in self.images:
            image.file.close()

    async def receive(self, body_format: BodyFormat, body: UploadBody) -> None:
        """Reads the whole body. Raises what `UploadBody.read` raises; BadRequest, BodyTooLarge and UnsupportedImage;
        and Unavailable when there is no space for the files."""
        if body_format.boundary is None:
            await self._receive_image(body)
        else:
            await self._receive_form(body_format.boundary, body)
        if not self.images:
            raise BadRequest(f"The form has no image: it is sent in the field {IMAGE_FIELD}")

    async def _receive_image(self, body: UploadBody) -> None:
        file = await self._open_image("")
        while data := await body.read():
            await file.write(data)

    async def _receive_form(self, boundary: str, body: UploadBody) -> None:
        parser: Any = PushMultipartParser(
            boundary,
            max_header_size=MAX_PART_HEADER_BYTES,
            max_header_count=MAX_PART_HEADERS,
            max_segment_count=self.settings.max_parts,
        )
        try:
            with parser:
                sink: PartSink | None = None
                data = await _read_first_boundary(boundary, body)
                while data:
                    # The parser yields a header, then the data of the part, then None at its end.
                    for event in parser.parse(data):
                        if isinstance(event, MultipartSegment):
                            sink = await self._begin_part(event)
                        elif event is None:
                            self._end_part(sink)
                        elif sink is not None:
                            await sink.write(event)
                    data = await body.read()
        except ParserLimitReached as error:
            raise BodyTooLarge(f"The form is over a limit: {error}", limit="form") from error
        except MultipartError as error:
            raise BadRequest(f"The form is not well formed: {error}") from error

    async def _begin_part(self, part: MultipartSegment) -> "PartSink":
        name = part.name or ""
        _check_part(part, name)
        if name == IMAGE_FIELD:
            return await self._open_image(display_name(part.filename or ""))
        if part.filename is not None:
            raise BadRequest(f"A file must be sent in the field {IMAGE_FIELD}", value=name[:MAX_FIELD_NAME_LENGTH])
        return FormField(name)

    def _end_part(self, sink: "PartSink | None") -> None:
        if isinstance(sink, FormField):
            self.fields.append((sink.name, sink.text()))

    async def _open_image(self, name: str) -> TempFile:
        file = await self.temp_files.open()
        self.images.append(UploadedImage(name, file))
        return file


class FormField:
    """A text field of a form, in memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._value = bytearray()

    async def write(self, data: bytes) -> None:
        """Raises BodyTooLarge."""
        self._value += data
        if len(self._value) > MAX_FIELD_BYTES:
            raise BodyTooLarge(f"{self.name}: the field is over {MAX_FIELD_BYTES} bytes", limit="field")

    def text(self) -> str:
        """Raises BadRequest for a value that is not UTF-8."""
        try:
            return self._value.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"{self.name}: the field is not UTF-8") from None


PartSink = TempFile | FormField


def display_name(name: str) -> str:
    """The last part of a client's file name, shortened, with every character replaced that could act as a control
    character where the name is displayed."""
    last = re.split(r"[/\\]", name)[-1]
    return UNPRINTABLE.sub("_", last)[:MAX_FILE_NAME_LENGTH]


async def _read_first_boundary(boundary: str, body: UploadBody) -> bytes:
    """The first bytes of the body, with the whole first boundary among them. Raises BadRequest for text before it:
    RFC 2046 allows such text, which no client sends, but the parser accepts or refuses it depending on how the network
    splits the body."""
    delimiter, received = b"--" + boundary.encode(), b""
    while len(received) < len(delimiter) + 2 and (data := await body.read()):
        received += data
    if not received.removeprefix(b"\r\n").startswith(delimiter):
        raise BadRequest("The form is not well formed: it must begin with its boundary")
    return received


def _check_part(part: MultipartSegment, name: str) -> None:
    """Raises BadRequest, BodyTooLarge and UnsupportedImage for a header that the parser does not check."""
    # The parser refuses a bare line feed only where the network splits the body right after the line.
    if any("\n" in value or "\n" in key for key, value in part.headerlist):
        raise BadRequest("The form is not well formed: a line break within a part's header")
    if sum(len(key) + len(value) + 4 for key, value in part.headerlist) > MAX_PART_HEADER_BYTES:
        raise BodyTooLarge(f"A part's header is over {MAX_PART_HEADER_BYTES} bytes", limit="part header")
    if not 1 <= len(name) <= MAX_FIELD_NAME_LENGTH:
        raise BadRequest(f"The name of a field must have 1-{MAX_FIELD_NAME_LENGTH} characters")
    transfer_encoding = (part.header("Content-Transfer-Encoding") or "binary").strip().lower()
    if part.header("Content-Encoding") or transfer_encoding not in IDENTITY_ENCODINGS:
        raise UnsupportedImage("A part of a form must be neither compressed nor encoded")
