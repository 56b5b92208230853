"""XML in, safe XML out: what an SVG may contain when librsvg draws it.

Expat fetches nothing: entities from outside stay empty. It limits the growth by entities from inside (since 2.4.1), and
the budget counts the expanded text again.
"""

import base64
from dataclasses import dataclass
from html import escape
from xml.parsers import expat

from imgserver.engine.job import over
from imgserver.engine.svg.embedded import Budget, content_of
from imgserver.engine.svg.encoding import text_of_xml
from imgserver.engine.svg.natural_size import NaturalSize, natural_size
from imgserver.errors import BrokenImage, ImageOverLimit, UnsupportedImage
from imgserver.plan.sniffing import HEAD_BYTES, format_of

# XML_ERROR_AMPLIFICATION_LIMIT_BREACH: expat ends a "billion laughs".
AMPLIFICATION = 43
# libxml2 refuses an element at level 256.
DEPTH = 250
# An SVG inside an SVG inside an SVG.
NESTED = 2
# Declared in the root if the file does not: SVG from HTML pages often lacks them.
NAMESPACES = {"xmlns": "http://www.w3.org/2000/svg", "xmlns:xlink": "http://www.w3.org/1999/xlink"}
# Elements that are never drawn, or whose content is elsewhere.
REMOVED = frozenset({"script", "include", "foreignObject"})
WITH_IMAGE = frozenset({"image", "feImage"})


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed SVG: its root element, and the markup inside it as it may be drawn."""

    name: str
    attributes: dict[str, str]
    size: NaturalSize
    content: str

    def markup(self, attributes: dict[str, str]) -> str:
        """The document with these attributes of its root."""
        return f"{_tag(self.name, attributes)}>{self.content}</{self.name}>"


def parse(data: bytes, budget: Budget, *, nested: int = NESTED) -> Document:
    """The SVG in `data`. Raises BrokenImage, ImageOverLimit, and UnsupportedImage for a document that is no SVG or has
    no area."""
    reader = _Reader(budget, nested)
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    try:
        parser.Parse(text_of_xml(data, limit=budget.text_bytes_left), True)
    except expat.ExpatError as error:
        if error.code == AMPLIFICATION:
            raise ImageOverLimit("the entities of the SVG expand to too much text", limit="svg text bytes") from error
        raise BrokenImage(f"the SVG is not well-formed: {error}") from error
    return reader.document()


class _Reader:
    """Handlers for expat, which write the allowed part of the content to `pieces`."""

    def __init__(self, budget: Budget, nested: int) -> None:
        self.name = ""
        self.attributes: dict[str, str] = {}
        self.pieces: list[str] = []
        self._prefixes: set[str] = set()
        self._budget = budget
        self._nested = nested
        self._depth = 0
        # The level of the removed element that is being read; 0 outside of one.
        self._removed = 0

    def document(self) -> Document:
        """What was read. Every prefix is declared: browsers and librsvg refuse one that is not, although what has it is
        only for an editor."""
        undeclared = {f"xmlns:{prefix}": f"urn:{prefix}" for prefix in self._prefixes - {"", "xml", "xmlns"}}
        attributes = undeclared | self.attributes
        return Document(self.name, attributes, natural_size(attributes), "".join(self.pieces))

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEPTH:
            raise over("nested svg elements", self._depth, DEPTH)
        if self._depth == 1:
            self._begin(name, attributes)
        elif not self._removed and _local(name) in REMOVED:
            self._removed = self._depth
        elif not self._removed:
            self._write(_tag(name, self._allowed(name, attributes)) + ">")

    def end(self, name: str) -> None:
        if self._depth > 1 and not self._removed:
            self.pieces.append(f"</{name}>")
        if self._removed == self._depth:
            self._removed = 0
        self._depth -= 1

    def characters(self, text: str) -> None:
        if not self._removed:
            self._write(escape(text, quote=False))

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if _local(name) != "svg":
            raise UnsupportedImage(f'this XML document is no SVG: its root element is "{name[:40]}"')
        self.name, self.attributes = name, NAMESPACES | self._allowed(name, attributes)
        self._budget.take_text(sum(map(len, self.attributes.values())))

    def _write(self, text: str) -> None:
        self._budget.take_text(len(text))
        self.pieces.append(text)

    def _allowed(self, name: str, attributes: dict[str, str]) -> dict[str, str]:
        """The attributes without references to anything but the document itself and judged images."""
        self._prefixes.update(key.rpartition(":")[0] for key in (name, *attributes))
        if not any(_local(key) == "href" for key in attributes):
            return attributes
        allowed = {}
        for key, value in attributes.items():
            url = self._reference(name, value.strip()) if _local(key) == "href" else value
            if url:
                allowed[key] = url
        return allowed

    def _reference(self, name: str, url: str) -> str:
        """The reference as it may be drawn; "" for one that may not."""
        if url.startswith("#"):
            return url
        if _local(name) not in WITH_IMAGE or url[:5].lower() != "data:":
            return ""
        image = content_of(url)
        if format_of(image[:HEAD_BYTES]) == "svg":
            return self._nested_svg(image)
        return url if self._budget.admit(image) else ""

    def _nested_svg(self, data: bytes) -> str:
        if not self._nested:
            return ""
        document = parse(data, self._budget, nested=self._nested - 1)
        text = document.markup(document.attributes)
        return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def _local(name: str) -> str:
    """A name without its namespace prefix."""
    return name.rpartition(":")[2]


def _tag(name: str, attributes: dict[str, str]) -> str:
    """The start tag, without its end. Line breaks are written as references: a parser would turn them into spaces."""
    pairs = (f' {key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{''.join(pairs)}".replace("\n", "&#10;").replace("\t", "&#9;").replace("\r", "&#13;")
