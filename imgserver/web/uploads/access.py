"""Which clients may upload: holders of a key, clients on this machine, and pages of one other origin (CORS)."""

from aiohttp import hdrs, web

from imgserver.rendering.upload_admission import Access
from imgserver.web.auth import Authenticator
from imgserver.web.local_client import is_local_client
from imgserver.web.middleware import Handler
from imgserver.web.uploads.results import FIELDS

METHODS = (hdrs.METH_POST, hdrs.METH_OPTIONS)
SCOPE = "upload"
ROUTE = "optimize"


class UploadAccess:
    """The rule of `uploads.access`. `is_local`: the server listens to this machine alone."""

    def __init__(self, access: Access, authenticator: Authenticator, *, is_local: bool) -> None:
        self._access = access
        self._authenticator = authenticator
        self._is_local = is_local

    def authorize(self, request: web.Request) -> str:
        """Returns the id of the request's key, or "" for a request that needs none. Raises what
        `Authenticator.require` raises."""
        if self._access == "open" or (self._access == "auto" and self._is_open_to(request)):
            return ""
        return self.require_key(request)

    def require_key(self, request: web.Request) -> str:
        """Returns the id of the request's key. Raises what `Authenticator.require` raises."""
        return self._authenticator.require(request, SCOPE, route=ROUTE)

    def _is_open_to(self, request: web.Request) -> bool:
        """A local client needs no key as long as no key for uploads is configured."""
        return self._is_local and not self._authenticator.keys.grants(SCOPE) and is_local_client(request)


def allow_origin(origin: str, handler: Handler) -> Handler:
    """Lets pages of this origin read the responses of the handler, errors included (Fetch, CORS protocol)."""

    async def allowed(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = ", ".join((*FIELDS, "Location"))
        return response

    return allowed


def preflight() -> web.Response:
    """The response to an OPTIONS request; browsers may cache it for a day."""
    headers = {
        "Allow": ", ".join(METHODS),
        "Access-Control-Allow-Methods": hdrs.METH_POST,
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": "86400",
    }
    return web.Response(status=204, headers=headers)
