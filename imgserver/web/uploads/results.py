"""The results of an upload, and the response that carries them: an image with its figures as headers, or JSON."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson
from aiohttp import web

from imgserver.engine.job import RenderResult
from imgserver.errors import ImgserverError
from imgserver.plan.formats import format_of_media_type
from imgserver.web import problem

# Headers of an image response. Scripts of the origin that may upload can read them.
FIELDS = (
    "X-Original-Bytes",
    "X-Result-Bytes",
    "X-Compression-Ratio",
    "X-Image-Width",
    "X-Image-Height",
    "X-Image-Format",
    "X-Optimized",
)


@dataclass(frozen=True, slots=True)
class UploadResult:
    """The result of one uploaded image, or its error."""

    name: str
    """The client's name for the image."""
    original_bytes: int
    result: RenderResult | ImgserverError
    result_bytes: int = 0
    """The length of the result, whose body is dropped when the response does not contain it."""
    url: str | None = None
    """Where the result was stored."""

    @property
    def ratio(self) -> float:
        """The bytes of the result divided by those of the original; 0 without a result."""
        return self.result_bytes / self.original_bytes if self.original_bytes else 0.0


class ResponseFormat(Enum):
    IMAGE = "image"
    JSON = "json"
    JSON_WITH_DATA = "json with data"
    """With the results themselves, as base64."""

    @classmethod
    def choose(cls, *, images: int, with_data: bool, accept: str) -> "ResponseFormat":
        """JSON for several images, and for a client that accepts JSON but names no image type. `*/*` names neither."""
        if with_data:
            return cls.JSON_WITH_DATA
        accept = accept.lower()
        return cls.JSON if images > 1 or ("application/json" in accept and "image/" not in accept) else cls.IMAGE


async def make_response(results: Sequence[UploadResult], response_format: ResponseFormat) -> web.Response:
    """Raises the error of an upload that has one image and no result."""
    if len(results) == 1 and isinstance(results[0].result, ImgserverError):
        raise results[0].result
    if response_format is ResponseFormat.IMAGE:
        return _image_response(results[0])
    return await _json_response(results, with_data=response_format is ResponseFormat.JSON_WITH_DATA)


def _image_response(upload: UploadResult) -> web.Response:
    result = upload.result
    assert isinstance(result, RenderResult)
    values = (
        upload.original_bytes,
        upload.result_bytes,
        f"{upload.ratio:.3f}",
        result.size.width,
        result.size.height,
        _format_name(result) or "none",
        result.outcome + (f";reason={result.reason}" if result.reason else ""),
    )
    headers = dict(zip(FIELDS, map(str, values), strict=True))
    if upload.url is not None:
        headers["Location"] = upload.url
    return web.Response(
        status=200 if upload.url is None else 201,
        body=result.body,
        headers={**headers, "Content-Type": result.media_type},
    )


async def _json_response(results: Sequence[UploadResult], *, with_data: bool) -> web.Response:
    """One object for one image; for several images, `files` with an object each, and their sums."""
    rows = [_row(upload) for upload in results]
    if with_data:
        # In a thread: encoding megabytes would block the event loop.
        await asyncio.to_thread(_add_data, rows, results)
    url = results[0].url
    body = rows[0] if len(rows) == 1 else {"files": rows, **_sums(results)}
    return web.Response(
        status=200 if url is None else 201,
        body=await asyncio.to_thread(orjson.dumps, body),
        content_type="application/json",
        headers=None if url is None else {"Location": url},
    )


def _row(upload: UploadResult) -> dict[str, Any]:
    result = upload.result
    if isinstance(result, ImgserverError):
        return {"name": upload.name, "original_bytes": upload.original_bytes, "error": problem.body_of(result)}
    return {
        "name": upload.name,
        "original_bytes": upload.original_bytes,
        "result_bytes": upload.result_bytes,
        "ratio": round(upload.ratio, 3),
        "width": result.size.width,
        "height": result.size.height,
        "format": _format_name(result) or None,
        "media_type": result.media_type,
        "optimized": result.outcome,
        **({"reason": result.reason} if result.reason else {}),
        **({"url": upload.url} if upload.url is not None else {}),
    }


def _sums(results: Sequence[UploadResult]) -> dict[str, Any]:
    """Of the images that have a result."""
    succeeded = [upload for upload in results if isinstance(upload.result, RenderResult)]
    before, after = sum(one.original_bytes for one in succeeded), sum(one.result_bytes for one in succeeded)
    return {"original_bytes": before, "result_bytes": after, "ratio": round(after / before, 3) if before else 0.0}


def _add_data(rows: list[dict[str, Any]], results: Sequence[UploadResult]) -> None:
    for row, upload in zip(rows, results, strict=True):
        if isinstance(upload.result, RenderResult):
            row["data"] = b64encode(upload.result.body).decode()


def _format_name(result: RenderResult) -> str:
    """The name of the format as in the options of URLs; "" for a result that is not an image."""
    row = format_of_media_type(result.media_type)
    return row.name if row else ""
