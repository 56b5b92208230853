"""Errors as responses: problem+json (RFC 9457), with the caching that each error allows."""

from collections.abc import Mapping

import orjson
from aiohttp import web
from multidict import CIMultiDict

from imgserver.errors import ImgserverError
from imgserver.headers.caching import error_cache_control

# The fields of an error that a response may contain. All others are for the log.
PUBLIC_FIELDS = frozenset({"argument", "value", "allowed", "nearest", "at", "reason", "retry_after", "limit"})
MEDIA_TYPE = "application/problem+json"
# The header with the code of the error, for machines and for HEAD.
CODE = "X-Imgserver-Error"


def answer(error: ImgserverError, request_id: str) -> web.Response:
    """The response to one of our errors; `request_id` is "" if no request could be parsed.

    429 and 503 always have Retry-After in whole seconds (RFC 6585, 4; RFC 9110, 10.2.3), 401 has WWW-Authenticate (RFC
    9110, 11.6.1).
    """
    headers = CIMultiDict({"Cache-Control": error_cache_control(error.max_age_seconds), CODE: error.code})
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.facts.get("retry_after", 1))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _response(error.status, body_of(error, request_id), headers)


def body_of(error: ImgserverError, request_id: str = "") -> dict[str, object]:
    """The members of a problem, also for one of several results of an upload."""
    public = {name: value for name, value in error.facts.items() if name in PUBLIC_FIELDS and value is not None}
    return _members(error.status, error.code, error.title, error.detail, request_id) | public


def answer_http(error: web.HTTPException, request_id: str) -> web.Response:
    """The response to an error of aiohttp (404 for an unknown route, 405, 413) in the same form, with its Allow."""
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
