"""The front page: the folder as a responsive grid that is made of our own pictures, so the demo is the proof.

It lists what is in the folder, so it is only there while nobody but this machine can ask (see `gallery` in the
settings).
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from string import Template

from aiohttp import web

from imgserver.dialects.native import NativeDialect
from imgserver.plan.plan import SourceRef
from imgserver.settings.schema import DefaultSource, ServerSettings
from imgserver.sources import Listed
from imgserver.web.bootstrap.sources import Sources
from imgserver.web.routes import Routes

SHOWN = 200
WIDTHS = (400, 800, 1200)
# The cards' own shape, cut around what draws the eye.
CARD = "ar_3:2,g_auto,f_auto"


@dataclass(frozen=True, slots=True)
class CardOptions:
    """Options: of the picture behind a card, of the card by its size in the srcset, and of what else may be clicked."""

    full: str
    sizes: Mapping[str, str]
    links: Mapping[str, str]


CARD_OPTIONS = CardOptions(
    full="f_auto",
    sizes={f"{width}w": f"w_{width},{CARD}" for width in WIDTHS},
    links={
        "webp": "w_800,f_webp",
        "square": "c_fill,w_400,h_400,g_auto",
        "grayscale": "w_800/e_grayscale",
        "rounded": "c_fill,w_400,h_400/r_max/f_png",
        "facts": "f_info",
    },
)


def _preset_options(names: tuple[str, ...]) -> CardOptions:
    """Of a server that answers nothing but presets, and pictures as they are."""
    return CardOptions(full="", sizes={"1x": ""}, links={name: f"t_{name}" for name in names})


# Its own styles, pictures from here, and nothing else.
POLICY = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


def setup(routes: Routes, settings: DefaultSource, sources: Sources, dialect: NativeDialect) -> None:
    listed = sources.by_name[settings.name]
    assert isinstance(listed, Listed)
    routes.add("/", Gallery(listed, dialect, source=settings.name, title=settings.title), "gallery")


def is_open(settings: ServerSettings) -> bool:
    """A list of the folder is for its owner: unless asked for, it is there only while strangers cannot reach it."""
    if settings.gallery == "auto":
        return settings.is_local
    return settings.gallery == "on"


class Gallery:
    def __init__(self, listed: Listed, dialect: NativeDialect, *, source: str, title: str) -> None:
        self._listed = listed
        self._title = title
        self._dialect = dialect
        self._source = source
        self._page = _template("gallery.html")
        self._card = _template("card.html")

    async def __call__(self, _: web.Request) -> web.Response:
        found = await self._listed.pictures(SHOWN)
        options = _preset_options(self._dialect.presets) if self._dialect.settings.presets_only else CARD_OPTIONS
        paths = [path for path in found if self._dialect.is_spellable(SourceRef(self._source, path))]
        shown = f"{len(paths)} pictures" if len(paths) != 1 else "1 picture"
        values = {
            "title": html.escape(self._title or "pictures"),
            "count": f"the first {SHOWN} pictures" if len(found) == SHOWN else shown,
            "cards": "".join(self._card_of(path, options) for path in paths)
            or "<li class=facts>No picture can be listed here.</li>",
        }
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        return web.Response(text=self._page.substitute(values), content_type="text/html", headers=headers)

    def _card_of(self, path: str, options: CardOptions) -> str:
        links = " ".join(f'<a href="{self._url(path, wish)}">{word}</a>' for word, wish in options.links.items())
        values: Mapping[str, str] = {
            "name": html.escape(path),
            "full": self._url(path, options.full),
            "small": self._url(path, next(iter(options.sizes.values()))),
            "srcset": ", ".join(f"{self._url(path, wish)} {size}" for size, wish in options.sizes.items()),
            "links": links,
        }
        return self._card.substitute(values)

    def _url(self, path: str, options: str) -> str:
        # srcset parts its candidates at commas that blanks follow; ours are followed by none.
        return html.escape(self._dialect.build(SourceRef(self._source, path), options))


def _template(name: str) -> Template:
    return Template((resources.files("imgserver.web") / "pages" / name).read_text("utf-8"))
