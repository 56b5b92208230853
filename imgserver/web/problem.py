"""Errors as answers: problem+json (RFC 9457), with the caching that each error allows."""

from collections.abc import Mapping

import orjson
from aiohttp import web
from multidict import CIMultiDict

from imgserver.errors import ImgserverError
from imgserver.headers.caching import error_cache_control

# What a client may see of an error's facts; anything else stays in the log.
PUBLIC_FACTS = frozenset({"argument", "value", "allowed", "nearest", "at", "reason", "retry_after", "limit"})
MEDIA_TYPE = "application/problem+json"
# The error's code for machines, beside the body.
CODE = "X-Imgserver-Error"


def answer(error: ImgserverError, request_id: str) -> web.Response:
    """The answer to an error of ours; `request_id` is "" where there is no request.

    429 and 503 always say when to come back (RFC 6585, 4; RFC 9110, 10.2.3: whole seconds), 401 what would open the
    door (11.6.1).
    """
    headers = CIMultiDict({"Cache-Control": error_cache_control(error.cache_seconds), CODE: error.code})
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.facts.get("retry_after", 1))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _response(error.status, body_of(error, request_id), headers)


def body_of(error: ImgserverError, request_id: str = "") -> dict[str, object]:
    """The members of a problem, also for one among several results."""
    facts = {name: fact for name, fact in error.facts.items() if name in PUBLIC_FACTS and fact is not None}
    return _members(error.status, error.code, error.title, error.detail, request_id) | facts


def answer_http(error: web.HTTPException, request_id: str) -> web.Response:
    """The framework's own refusals (404 for no such route, 405, 413) in the same shape; Allow is kept."""
    headers = CIMultiDict({"Cache-Control": "no-store", CODE: "http"})
    if "Allow" in error.headers:
        headers["Allow"] = error.headers["Allow"]
    return _response(error.status, _members(error.status, "http", error.reason, error.reason, request_id), headers)


def _members(status: int, code: str, title: str, detail: str, request_id: str) -> dict[str, object]:
    return {
        "type": f"urn:imgserver:error:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        **({"request_id": request_id} if request_id else {}),
    }


def _response(status: int, body: Mapping[str, object], headers: CIMultiDict[str]) -> web.Response:
    headers["Content-Type"] = MEDIA_TYPE
    return web.Response(status=status, body=orjson.dumps(body, default=str), headers=headers)
