"""The front page: the folder as a responsive grid that is made of our own pictures, so the demo is the proof.

It lists what is in the folder, so it is only there while nobody but this machine can ask (see `gallery` in the
settings).
"""

import html
from collections.abc import Mapping
from importlib import resources
from string import Template

from aiohttp import web

from imgserver.dialects.native import NativeDialect
from imgserver.plan import SourceRef
from imgserver.sources.folder import Folder

SHOWN = 200
WIDTHS = (400, 800, 1200)
# The cards' own shape, cut around what draws the eye.
CARD = "ar_3:2,g_auto,f_auto"
# What else a visitor may click, by the word of the link.
WISHES = {
    "webp": "w_800,f_webp",
    "square": "c_fill,w_400,h_400,g_auto",
    "grayscale": "w_800/e_grayscale",
    "rounded": "c_fill,w_400,h_400/r_max/f_png",
    "facts": "f_info",
}
# Its own styles, pictures from here, and nothing else.
POLICY = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class Gallery:
    def __init__(self, folder: Folder, dialect: NativeDialect, source: str) -> None:
        self._folder = folder
        self._dialect = dialect
        self._source = source
        self._page = _template("gallery.html")
        self._card = _template("card.html")

    async def __call__(self, _: web.Request) -> web.Response:
        found = await self._folder.pictures(SHOWN)
        paths = [path for path in found if self._dialect.is_spellable(SourceRef(self._source, path))]
        shown = f"{len(paths)} pictures" if len(paths) != 1 else "1 picture"
        values = {
            "title": html.escape(self._folder.root.name or "pictures"),
            "count": f"the first {SHOWN} pictures" if len(found) == SHOWN else shown,
            "cards": "".join(map(self._card_of, paths)) or "<li class=facts>There is no picture in this folder.</li>",
        }
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        return web.Response(text=self._page.substitute(values), content_type="text/html", headers=headers)

    def _card_of(self, path: str) -> str:
        links = " ".join(f'<a href="{self._url(path, wish)}">{word}</a>' for word, wish in WISHES.items())
        values: Mapping[str, str] = {
            "name": html.escape(path),
            "full": self._url(path, "f_auto"),
            "small": self._url(path, f"w_{WIDTHS[0]},{CARD}"),
            "srcset": ", ".join(f"{self._url(path, f'w_{width},{CARD}')} {width}w" for width in WIDTHS),
            "links": links,
        }
        return self._card.substitute(values)

    def _url(self, path: str, options: str) -> str:
        # srcset parts its candidates at commas that blanks follow; ours are followed by none.
        return html.escape(self._dialect.build(SourceRef(self._source, path), options))


def _template(name: str) -> Template:
    return Template((resources.files("imgserver.web") / "pages" / name).read_text("utf-8"))
