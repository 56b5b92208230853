"""The gallery: the default source as a page of responsive images, which this server itself renders.

It reveals the names of the files, so by default it exists only while the server listens to this machine alone, and is
shown to clients on this machine only (the setting `server.gallery`).
"""

import asyncio
import html
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from string import Template

from aiohttp import web

from imgserver.dialects.native import NativeDialect
from imgserver.errors import ImgserverError
from imgserver.plan.canonical import version_of
from imgserver.plan.plan import SourceRef
from imgserver.settings.schema import ServerSettings, Settings
from imgserver.sources import Source
from imgserver.web.bootstrap.sources import Sources
from imgserver.web.local_client import is_local_client
from imgserver.web.middleware import Handler
from imgserver.web.routes import Routes

MAX_IMAGES = 200
# The page waits so long for the versions of its images. Those of a remote source may take a request each.
VERSIONS_SECONDS = 1.0
VERSION_REQUESTS = 8
WIDTHS = (400, 800, 1200)
# The shape of a card, cropped around the part of the image that draws the eye.
CARD = "ar_3:2,g_auto,f_auto"


@dataclass(frozen=True, slots=True)
class CardOptions:
    """The options of every URL on a card."""

    full: str
    """Of the image that a click on the card opens."""
    sizes: Mapping[str, str]
    """Of the card's image, by the descriptor in its `srcset`."""
    links: Mapping[str, str]
    """Of the further renditions, by the text of their links."""


CARD_OPTIONS = CardOptions(
    full="f_auto",
    sizes={f"{width}w": f"w_{width},{CARD}" for width in WIDTHS},
    links={
        "webp": "w_800,f_webp",
        "square": "c_fill,w_400,h_400,g_auto",
        "grayscale": "w_800/e_grayscale",
        "rounded": "c_fill,w_400,h_400/r_max/f_png",
        "info": "f_info",
    },
)


# Inline styles, images of this server, and nothing else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
)


def is_enabled(settings: ServerSettings) -> bool:
    """`auto` enables the gallery only while no other machine can reach the server."""
    if settings.gallery == "auto":
        return settings.is_local
    return settings.gallery == "on"


def setup(routes: Routes, settings: Settings, sources: Sources, dialect: NativeDialect) -> None:
    own = settings.source
    gallery = Gallery(
        sources.by_name[own.name],
        dialect,
        name=own.name,
        title=own.title,
        version_parameter=settings.http.version_parameter,
    )
    routes.add("/", _for_local_clients(gallery) if settings.server.gallery == "auto" else gallery, "gallery")


def _for_local_clients(gallery: Handler) -> Handler:
    """Raises HTTPNotFound for any other client: a page of another site, or one behind a proxy."""

    async def restricted(request: web.Request) -> web.StreamResponse:
        if not is_local_client(request):
            raise web.HTTPNotFound(reason="The gallery is shown to this machine only (server.gallery)")
        return await gallery(request)

    return restricted


class Gallery:
    """The page, listed anew for every request. It omits a file whose path no URL can express.

    Its URLs name the versions of their originals, so that browsers may cache the images for a year.
    """

    def __init__(
        self, source: Source, dialect: NativeDialect, *, name: str, title: str, version_parameter: str = ""
    ) -> None:
        self._source = source
        self._title = title
        self._dialect = dialect
        self._source_name = name
        self._version_parameter = version_parameter
        self._page = _template("gallery.html")
        self._card = _template("card.html")

    async def __call__(self, _: web.Request) -> web.Response:
        found = await self._source.listing(MAX_IMAGES)
        options = _preset_options(self._dialect.presets) if self._dialect.settings.presets_only else CARD_OPTIONS
        paths = [path for path in found if self._dialect.can_build(SourceRef(self._source_name, path))]
        queries = await self._queries(paths)
        count = f"{len(paths)} images" if len(paths) != 1 else "1 image"
        values = {
            "title": html.escape(self._title or "images"),
            "count": f"the first {MAX_IMAGES} images" if len(found) == MAX_IMAGES else count,
            "cards": "".join(self._card_of(path, queries.get(path, ""), options) for path in paths)
            or "<li class=caption>This source has no image that can be listed.</li>",
        }
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-store"}
        return web.Response(text=self._page.substitute(values), content_type="text/html", headers=headers)

    async def _queries(self, paths: Sequence[str]) -> Mapping[str, str]:
        """The query with the version of each original, by path; without those that the source does not tell in time."""
        queries: dict[str, str] = {}
        if not self._version_parameter:
            return queries
        requests = asyncio.Semaphore(VERSION_REQUESTS)

        async def add(path: str) -> None:
            async with requests:
                with suppress(ImgserverError):
                    version = version_of(await self._source.fingerprint(path))
                    queries[path] = f"?{self._version_parameter}={version}"

        with suppress(TimeoutError):
            async with asyncio.timeout(VERSIONS_SECONDS):
                await asyncio.gather(*map(add, paths))
        return queries

    def _card_of(self, path: str, query: str, options: CardOptions) -> str:
        def url(chosen: str) -> str:
            # A comma in a URL does not end a candidate of srcset unless a space follows it; no space follows ours.
            return html.escape(self._dialect.build(SourceRef(self._source_name, path), chosen) + query)

        values: Mapping[str, str] = {
            "name": html.escape(path),
            "full": url(options.full),
            "small": url(next(iter(options.sizes.values()))),
            "srcset": ", ".join(f"{url(chosen)} {size}" for size, chosen in options.sizes.items()),
            "links": " ".join(f'<a href="{url(chosen)}">{text}</a>' for text, chosen in options.links.items()),
        }
        return self._card.substitute(values)


def _preset_options(names: tuple[str, ...]) -> CardOptions:
    """For a server that serves presets and unchanged originals only."""
    return CardOptions(full="", sizes={"1x": ""}, links={name: f"t_{name}" for name in names})


def _template(name: str) -> Template:
    return Template((resources.files("imgserver.web") / "pages" / name).read_text("utf-8"))
