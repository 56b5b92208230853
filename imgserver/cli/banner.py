"""What `imgserver serve` prints once it listens: pictures of the folder, transformed, as URLs to click."""

import webbrowser
from dataclasses import dataclass
from itertools import cycle, islice
from threading import Thread

from imgserver.dialects.native import NativeDialect
from imgserver.plan.plan import SourceRef
from imgserver.settings.schema import Settings
from imgserver.sources.folder import image_paths
from imgserver.web.bootstrap.dialects import make_dialects

SHOWN = (
    ("w_400", "at most 400 wide"),
    ("c_fill,w_400,h_400,g_auto", "a square around what draws the eye"),
    ("w_800,f_auto", "AVIF, WebP or JPEG, as the browser likes"),
    ("w_600,e_grayscale", "black and white"),
    ("c_fill,w_300,h_300/r_max,f_png", "round, transparent corners"),
    ("w_800,f_info", "JSON: the original, and what it would become"),
)


@dataclass(frozen=True, slots=True)
class Banner:
    """Called with the server's address when it listens. The folder is read before: the event loop must not wait."""

    place: str
    targets: tuple[tuple[str, str], ...]
    open_browser: bool = False

    @classmethod
    def of(cls, settings: Settings, *, gallery: bool = False, open_browser: bool = False) -> "Banner":
        front = (("/", "all pictures of the source"),) if gallery and settings.source.row.can_list else ()
        return cls(settings.source.url or str(settings.source.root), (*front, *examples(settings)), open_browser)

    def __call__(self, base: str) -> None:
        from rich.console import Console
        from rich.text import Text

        base = base.rstrip("/")
        # Lines, not a rich table: a table cuts what is wider than the terminal, and a cut URL is no URL.
        console = Console(soft_wrap=True, highlight=False)
        console.print(Text.assemble(("imgserver", "bold"), f" serves {self.place} at {base}; Ctrl-C stops it\n"))
        column = max(len(meaning) for _, meaning in self.targets) + 2
        for target, meaning in self.targets:
            # Styled text, not markup: the brackets of an IPv6 address would end a [link=...] tag.
            url = (base + target, f"cyan link {base}{target}")
            console.print(Text.assemble((f"  {meaning.ljust(column)}", "dim"), url))
        console.file.flush()
        if self.open_browser:
            # A browser in the terminal would hold the server until it is left.
            Thread(target=webbrowser.open, args=(base + self.targets[0][0],), daemon=True).start()


def examples(settings: Settings) -> list[tuple[str, str]]:
    """Targets with their meanings: each transformation on another picture while there are some, and the health page."""
    dialect = make_dialects(settings).native
    folder = settings.source.folder
    found = image_paths(folder) if folder is not None else iter(())
    spellable = (path for path in found if dialect.can_build(SourceRef(settings.source.name, path)))
    pictures = list(islice(spellable, len(SHOWN)))
    shown = [
        (dialect.build(SourceRef(settings.source.name, name), options), meaning)
        for (options, meaning), name in zip(_shown(dialect), cycle(pictures), strict=False)
    ]
    hint = [] if pictures else [("/img/w_400/<file>", _hint(settings))]
    return [*shown, *hint, ("/api/health", "is it well")]


def _hint(settings: Settings) -> str:
    if settings.source.folder is not None:
        return f"no pictures in {settings.source.folder} yet; put some there"
    return "a picture of this source, at most 400 wide"


def _shown(dialect: NativeDialect) -> tuple[tuple[str, str], ...]:
    """What this server answers."""
    if not dialect.settings.presets_only:
        return SHOWN
    return (("", "as it is"), *((f"t_{name}", f"preset {name}") for name in dialect.presets))
