"""What became of an upload, as a picture with its figures in the header, or as JSON."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from imgserver.engine.job import RenderResult
from imgserver.errors import ImgserverError
from imgserver.plan.formats import FORMATS
from imgserver.web import problem

# Beside the picture; scripts of other origins may read them where uploads from there are allowed.
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
    """Of one picture: its result or its error. `url` is where the result was stored.

    `result_bytes` is the length of the result, whose body may be gone when nobody will be sent it.
    """

    name: str
    original_bytes: int
    result: RenderResult | ImgserverError
    result_bytes: int = 0
    url: str | None = None

    @property
    def ratio(self) -> float:
        """Of result to original; 0 without a result."""
        return self.result_bytes / self.original_bytes if self.original_bytes else 0.0


def format_name(result: RenderResult) -> str:
    """By our own word; what is told instead of a picture has none."""
    return next((row.name for row in FORMATS.values() if row.media_type == result.media_type), "")


def picture(finding: UploadResult, result: RenderResult) -> web.Response:
    values = (
        finding.original_bytes,
        finding.result_bytes,
        f"{finding.ratio:.3f}",
        result.size.width,
        result.size.height,
        format_name(result) or "none",
        result.outcome + (f";reason={result.reason}" if result.reason else ""),
    )
    headers = dict(zip(FIELDS, map(str, values), strict=True))
    if finding.url is not None:
        headers["Location"] = finding.url
    return web.Response(
        status=200 if finding.url is None else 201,
        body=result.body,
        headers={**headers, "Content-Type": result.media_type},
    )


async def listing(findings: Sequence[UploadResult], *, several: bool, data: bool) -> web.Response:
    """One object, or `files` with one each and their sums. `data`: the results themselves as base64."""
    rows = [_facts(finding) for finding in findings]
    if data:
        # Megabytes are no work for the event loop.
        await asyncio.to_thread(_fill, rows, findings)
    stored = any(finding.url is not None for finding in findings)
    body = {"files": rows, **_sums(findings)} if several else rows[0]
    return web.Response(
        status=201 if stored else 200,
        body=await asyncio.to_thread(orjson.dumps, body),
        content_type="application/json",
        headers={"Location": findings[0].url} if findings[0].url and not several else None,
    )


def _facts(finding: UploadResult) -> dict[str, Any]:
    result = finding.result
    if isinstance(result, ImgserverError):
        return {"name": finding.name, "original_bytes": finding.original_bytes, "error": problem.body_of(result)}
    return {
        "name": finding.name,
        "original_bytes": finding.original_bytes,
        "result_bytes": finding.result_bytes,
        "ratio": round(finding.ratio, 3),
        "width": result.size.width,
        "height": result.size.height,
        "format": format_name(result) or None,
        "media_type": result.media_type,
        "optimized": result.outcome,
        **({"reason": result.reason} if result.reason else {}),
        **({"url": finding.url} if finding.url is not None else {}),
    }


def _sums(findings: Sequence[UploadResult]) -> dict[str, Any]:
    made = [one for one in findings if isinstance(one.result, RenderResult)]
    before, after = sum(one.original_bytes for one in made), sum(one.result_bytes for one in made)
    return {"original_bytes": before, "result_bytes": after, "ratio": round(after / before, 3) if before else 0.0}


def _fill(rows: list[dict[str, Any]], findings: Sequence[UploadResult]) -> None:
    for row, finding in zip(rows, findings, strict=True):
        if isinstance(finding.result, RenderResult):
            row["data"] = b64encode(finding.result.body).decode()
