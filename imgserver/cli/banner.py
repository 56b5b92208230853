"""The banner of `imgserver serve`: URLs to try, with images of the served folder."""

import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from threading import Thread

from imgserver.dialects.native import NativeDialect
from imgserver.plan.plan import SourceRef
from imgserver.security.redaction import redact
from imgserver.settings.schema import Settings
from imgserver.sources.folder import image_paths
from imgserver.web.bootstrap.dialects import make_dialects

EXAMPLES = (
    ("w_400", "at most 400 pixels wide"),
    ("c_fill,w_400,h_400,g_auto", "square crop around the most salient region"),
    ("w_800,f_auto", "AVIF, WebP or JPEG, by the browser's Accept"),
    ("w_600,e_grayscale", "grayscale"),
    ("c_fill,w_300,h_300/r_max,f_png", "circle with transparent corners"),
    ("w_800,f_info", "JSON: size and format of original and result"),
)


@dataclass(frozen=True, slots=True)
class Banner:
    """Printed by a call with the server's address, once it listens.

    `of` reads the folder before the event loop runs, because reading it blocks.
    """

    source: str
    targets: tuple[tuple[str, str], ...]
    open_browser: bool = False

    @classmethod
    def of(cls, settings: Settings, *, gallery: bool = False, open_browser: bool = False) -> "Banner":
        front = (("/", "gallery of all originals"),) if gallery and settings.source.row.can_list else ()
        return cls(
            redact(settings.source.url) or str(settings.source.root), (*front, *examples(settings)), open_browser
        )

    def __call__(self, base: str) -> None:
        """Prints the URLs below `base`, and opens the first one in the browser if that was requested."""
        from rich.console import Console
        from rich.text import Text

        base = base.rstrip("/")
        # Plain lines: a rich table would cut a URL that is wider than the terminal.
        console = Console(soft_wrap=True, highlight=False)
        console.print(Text.assemble(("imgserver", "bold"), f" serves {self.source} at {base} (Ctrl-C stops it)\n"))
        column = max(len(meaning) for _, meaning in self.targets) + 2
        for target, meaning in self.targets:
            # Text with a style instead of markup: the brackets of an IPv6 address would end a [link=...] tag.
            url = (base + target, f"cyan link {base}{target}")
            console.print(Text.assemble((f"  {meaning.ljust(column)}", "dim"), url))
        console.file.flush()
        if self.open_browser:
            # In a thread: a browser in the terminal blocks until it is closed.
            Thread(target=webbrowser.open, args=(base + self.targets[0][0],), daemon=True).start()


def examples(settings: Settings) -> list[tuple[str, str]]:
    """Request targets with their meanings: each transformation of a different original if possible, and /api/health."""
    dialect = make_dialects(settings).native
    folder = settings.source.folder
    found = image_paths(folder) if folder is not None else iter(())
    usable = (path for path in found if dialect.can_build(SourceRef(settings.source.name, path)))
    originals: list[str] = []
    with suppress(OSError):  # a folder that cannot be read now has no examples
        originals += islice(usable, len(EXAMPLES))
    targets = [
        (dialect.build(SourceRef(settings.source.name, name), options), meaning)
        for (options, meaning), name in zip(_transformations(dialect), cycle(originals), strict=False)
    ]
    hint = [] if originals else [("/img/w_400/<file>", _hint(settings))]
    return [*targets, *hint, ("/api/health", "health of the server")]


def _hint(settings: Settings) -> str:
    if settings.source.folder is not None:
        return f"{settings.source.folder} has no images yet; put some there"
    return "an original of this source, at most 400 pixels wide"


def _transformations(dialect: NativeDialect) -> tuple[tuple[str, str], ...]:
    """Options and their meanings that this server accepts."""
    if not dialect.settings.presets_only:
        return EXAMPLES
    return (("", "unchanged"), *((f"t_{name}", f"preset {name}") for name in dialect.presets))
