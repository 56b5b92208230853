"""The paths of the application: each handler behind the boundary, and whatever is no path as well."""

from collections.abc import Callable

from aiohttp import web

from imgserver.web.access_log import METHODS
from imgserver.web.middleware import READING, Boundary, Handler, elsewhere

# With plain `.*` a path that holds an encoded line break would never reach the handler.
ANYTHING = "{tail:(?s:.*)}"


class Routes:
    """`end` after the last path: the router takes the first that fits."""

    def __init__(self, router: web.UrlDispatcher, boundary: Boundary) -> None:
        self.around = boundary.around
        self._router = router
        self._elsewhere = boundary.around(elsewhere, "other", tuple(METHODS))

    def add(self, path: str, handler: Handler, route: str, methods: tuple[str, ...] = READING) -> Handler:
        """Puts the handler behind the boundary and there; as it is then."""
        bounded = self.around(handler, route, methods)
        self.put(path, bounded)
        return bounded

    def add_while(
        self, is_there: Callable[[], bool], path: str, handler: Handler, route: str, methods: tuple[str, ...]
    ) -> None:
        """The same for a page that comes and goes: meanwhile the path is none."""
        bounded, elsewhere = self.around(handler, route, methods), self._elsewhere

        async def there(request: web.Request) -> web.StreamResponse:
            return await (bounded if is_there() else elsewhere)(request)

        self.put(path, there)

    def put(self, path: str, bounded: Handler) -> None:
        """A handler that is behind the boundary."""
        self._router.add_route("*", path, bounded, expect_handler=_expect_nothing)

    def end(self) -> None:
        """What answers wherever there is nothing."""
        self.put("/" + ANYTHING, self._elsewhere)


async def _expect_nothing(_: web.Request) -> None:
    """The framework would tell every client to go on before a handler has seen its key, and refuse what else it expects
    past the boundary. Whoever reads a body invites it (web/uploads/body.py)."""
