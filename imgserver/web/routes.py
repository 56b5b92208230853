"""The routes of the application: each handler wrapped by the boundary, and a fallback for all other paths."""

from collections.abc import Callable

from aiohttp import web

from imgserver.web.access_log import METHODS
from imgserver.web.middleware import READING, UNROUTED, Boundary, Handler, handle_unrouted

# A plain `.*` would not match a path with an encoded line break.
ANYTHING = "{tail:(?s:.*)}"


class Routes:
    """The router takes the first route that matches, so `add_fallback` comes last."""

    def __init__(self, router: web.UrlDispatcher, boundary: Boundary) -> None:
        self.wrap = boundary.wrap
        self._router = router
        self._unrouted = boundary.wrap(handle_unrouted, UNROUTED, tuple(METHODS))

    def add(self, path: str, handler: Handler, route: str, methods: tuple[str, ...] = READING) -> Handler:
        """Wraps the handler and adds it. Returns the wrapped handler."""
        wrapped = self.wrap(handler, route, methods)
        self.add_wrapped(path, wrapped)
        return wrapped

    def add_while(
        self, is_enabled: Callable[[], bool], path: str, handler: Handler, route: str, methods: tuple[str, ...]
    ) -> None:
        """Adds a handler that requests reach only while `is_enabled`; otherwise the path is answered as unknown."""
        wrapped, unrouted = self.wrap(handler, route, methods), self._unrouted

        async def switch(request: web.Request) -> web.StreamResponse:
            return await (wrapped if is_enabled() else unrouted)(request)

        self.add_wrapped(path, switch)

    def add_wrapped(self, path: str, wrapped: Handler) -> None:
        self._router.add_route("*", path, wrapped, expect_handler=_ignore_expect)

    def add_fallback(self) -> None:
        """Answers every other path, so that this is counted and logged too."""
        self.add_wrapped("/" + ANYTHING, self._unrouted)


async def _ignore_expect(_: web.Request) -> None:
    """By default aiohttp sends 100 Continue before the handler has checked the API key, and refuses other expectations
    outside of the boundary. The handler that reads a body sends 100 Continue itself (web/request_body.py)."""
