"""SVG originals: sizes by the rules of CSS, drawn at the target size, and nothing in them escapes the limits."""

import base64
import gzip
import time
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from imgserver.engine.job import Limits
from imgserver.engine.svg import open_drawing
from imgserver.engine.vips import open_engine
from imgserver.errors import BrokenImage, ImageOverLimit, UnsupportedImage
from imgserver.plan.plan import CENTER, Crop, Fit, Px
from imgserver.runtime.resources import MIB
from tests.engine.conftest import Renderer, saved
from tests.running_server import CASES

SVG = 'xmlns="http://www.w3.org/2000/svg"'
LIMITS = Limits(svg=True)
RED = (255, 0, 0, 255)


@pytest.fixture(autouse=True, scope="module")
def svg_engine() -> "object":
    open_engine(svg=True)
    yield
    open_engine()


@pytest.fixture
def draw(tmp_path: Path) -> Renderer:
    return Renderer(tmp_path, LIMITS)


def root(attributes: str = 'width="20" height="20"', content: str = "") -> bytes:
    content = content or '<rect width="100%" height="100%" fill="red"/>'
    return f"<svg {SVG} {attributes}>{content}</svg>".encode()


def squeezed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def pixel(image: Image.Image, x: int = 10, y: int = 10) -> object:
    return image.convert("RGBA").getpixel((x, y))


# CSS Values 4, 6.2, and CSS 2.1, 10.3.2.
@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('width="24" height="12"', (24, 12)),
        ('width="24px" height="12PX"', (24, 12)),
        ('width="25.4mm" height="1in"', (96, 96)),
        ('width="2.54cm" height="101.6q"', (96, 96)),
        ('width="72pt" height="6pc"', (96, 96)),
        ('width="10em" height="10ex"', (160, 80)),
        ('width=" 1e2 " height="+5.0e1px"', (100, 50)),
        ('width="24.6" height="0.2"', (25, 1)),
        ('viewBox="0 0 50 20"', (50, 20)),
        ('viewBox="-10,-10,50,20" width="100%" height="100%"', (50, 20)),
        ('viewBox="0 0 50 20" width="100"', (100, 40)),
        ('viewBox="0 0 50 20" height="100px" width="auto"', (250, 100)),
        ('viewBox="0 0 50 20" width="30" height="30"', (30, 30)),
        ('viewBox="0 0 0 0" width="30" height="30"', (30, 30)),
        ("", (300, 150)),
        ('width="100%" height="100%"', (300, 150)),
        ('width="40"', (40, 150)),
        ('width="10" height="10" style="fill:red; width: 50px; height:20px !important"', (50, 20)),
        ('width="1e-9" height="1e-9" viewBox="0 0 9 9"', (1, 1)),
    ],
)
def test_the_natural_size_follows_css(draw: Renderer, attributes: str, size: tuple[int, int]) -> None:
    image = draw.image(root(attributes))

    assert image.size == size
    assert pixel(image, size[0] // 2, size[1] // 2) == RED or "viewBox" in attributes


def test_an_inch_is_96_pixels_in_the_case(draw: Renderer) -> None:
    assert draw.image((CASES / "f9_25.4mm.svg").read_bytes()).size == (96, 96)


@pytest.mark.parametrize("attributes", ['width="0" height="0"', 'width="-5" height="10"', 'width="10" height="0px"'])
def test_an_svg_without_area_is_unsupported_and_says_so(draw: Renderer, attributes: str) -> None:
    with pytest.raises(UnsupportedImage, match="no area"):
        draw(root(attributes))


def edge_pixels(image: Image.Image) -> int:
    """Pixels of the middle row that are neither fully covered nor empty."""
    row = [pixel(image, x, image.height // 2)[3] for x in range(image.width)]  # type: ignore[index]
    return sum(0 < alpha < 255 for alpha in row)


@pytest.mark.parametrize(
    "steps", [(Fit(Px(480), enlarge="allow"),), (Crop(Px(20), Px(20), anchor=CENTER), Fit(Px(400), enlarge="allow"))]
)
def test_an_enlarged_svg_is_drawn_at_its_target_size(draw: Renderer, steps: tuple[Fit, ...]) -> None:
    image = draw.image((CASES / "f8_icon24.svg").read_bytes(), *steps)

    assert image.size in ((480, 480), (400, 400))
    assert 0 < edge_pixels(image) <= 4


@pytest.mark.parametrize("attributes", ['width="100" height="33" viewBox="0 0 100 33"', 'width="100" height="33"'])
def test_a_side_of_a_fraction_of_a_pixel_is_stretched_and_leaves_no_rim(draw: Renderer, attributes: str) -> None:
    image = draw.image(root(attributes), Fit(Px(480), enlarge="allow"))

    assert image.size == (480, 158)
    assert image.convert("RGBA").getcolors() == [(480 * 158, RED)]


def test_the_view_box_keeps_its_proportion_inside_another_shape(draw: Renderer) -> None:
    image = draw.image(root('width="40" height="20" viewBox="0 0 10 10"', '<rect width="10" height="10" fill="red"/>'))

    assert [pixel(image, x)[3] for x in (5, 20, 35)] == [0, 255, 0]  # type: ignore[index]


def test_a_style_sheet_does_not_change_the_size(draw: Renderer) -> None:
    content = '<style>svg { width: 7px; height: 100% }</style><rect width="20" height="20" fill="red"/>'

    image = draw.image(root('width="20" height="20"', content), Fit(Px(60), enlarge="allow"))

    assert (image.size, pixel(image, 50, 50)) == ((60, 60), RED)


@pytest.mark.parametrize("size", ['width="1" height="1"', 'viewBox="0 0 0.001 0.002"', 'width="9999999" height="1"'])
@pytest.mark.parametrize("limits", [Limits(source_pixels=250_000), Limits(source_side=300), Limits(decoded_bytes=MIB)])
def test_a_huge_scale_stays_within_the_limits(tmp_path: Path, size: str, limits: Limits) -> None:
    """Drawn as large as an original may be, and enlarged from there."""
    (tmp_path / "a.svg").write_bytes(root(size))

    image = open_drawing(str(tmp_path / "a.svg"), limits).at_scale(Fraction(8192))

    assert max(image.width, image.height) <= limits.source_side
    assert image.width * image.height <= min(limits.source_pixels, limits.decoded_bytes // 4)


def test_an_svg_larger_than_the_limits_is_drawn_smaller(draw: Renderer) -> None:
    assert draw(root('width="9000000" height="3000000"'), Fit(Px(300))).size.height == 100


CIRCLE = '<circle cx="10" cy="10" r="9" fill="red"/>'
PLAIN = f'<svg {SVG} width="20" height="20">{CIRCLE}</svg>'
PROLOGS = {
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "spaces": b" \n\t" + PLAIN.encode(),
    "utf-16 with mark": PLAIN.encode("utf-16"),
    "utf-16 big endian": f'<?xml version="1.0" encoding="UTF-16"?>{PLAIN}'.encode("utf-16-be"),
    "utf-16 little endian": f'<?xml version="1.0" encoding="UTF-16"?>{PLAIN}'.encode("utf-16-le"),
    "latin-1": f'<?xml version="1.0" encoding="ISO-8859-1"?><!-- café -->{PLAIN}'.encode("latin-1"),
    "windows-1252": f'<?xml version="1.0" encoding="windows-1252"?><!-- “café” -->{PLAIN}'.encode("cp1252"),
    "shift_jis": f'<?xml version="1.0" encoding="Shift_JIS"?><!-- 画像 -->{PLAIN}'.encode("shift_jis"),
    "long comment": b"<!--" + b"x" * 70_000 + b"-->" + PLAIN.encode(),
    "comment longer than the head": b"<!--" + b"x" * 200_000 + b"-->" + PLAIN.encode(),
    "many comments": b"<!-- - > -->\n" * 300 + PLAIN.encode(),
    "doctype": b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://x.invalid/svg11.dtd">' + PLAIN.encode(),
    "doctype with a subset": (
        b"<?xml version='1.0'?><!-- a --><!DOCTYPE svg [ <!-- it's ]> --> <!ENTITY a \"]>\"> <?pi ]> ' ?>\n"
        b"<!ENTITY b 'red'> ] ><!-- b -->" + PLAIN.replace('"red"', '"&b;"').encode()
    ),
    "namespace in an entity": (
        b'<!DOCTYPE svg [<!ENTITY ns "http://www.w3.org/2000/svg">]>'
        + PLAIN.replace('"http://www.w3.org/2000/svg"', '"&ns;"').encode()
    ),
    "prefix": f'<s:svg xmlns:s="{SVG[7:-1]}" width="20" height="20"><s:{CIRCLE[1:]}</s:svg>'.encode(),
    "no namespace": PLAIN.replace(SVG, "").encode(),
    "gzip": squeezed(PLAIN.encode()),
    "gzip of utf-16": squeezed(PLAIN.encode("utf-16")),
    "style sheet in cdata": (
        f'<svg {SVG} width="20" height="20"><style><![CDATA[ g > circle {{ fill: red }} ]]></style>'
        f"<g>{CIRCLE.replace('fill=', 'title=')}</g></svg>"
    ).encode(),
    "elements of an editor": (
        f'<svg {SVG} width="20" height="20" xmlns:x="urn:editor" x:y="1"><x:view undeclared:z="1"/>{CIRCLE}</svg>'
    ).encode(),
}


@pytest.mark.parametrize("name", PROLOGS)
def test_every_way_to_begin_an_svg_is_drawn(draw: Renderer, name: str) -> None:
    image = draw.image(PROLOGS[name])

    assert (image.size, pixel(image), pixel(image, 0, 0)[3]) == ((20, 20), RED, 0)  # type: ignore[index]


@pytest.mark.parametrize(
    "name", ["f10_illustrator.svg", "f10_long_comment.svg", "f10_utf16.svg", "prefixed.svg", "f8_icon24.svg"]
)
def test_the_cases_are_drawn(draw: Renderer, name: str) -> None:
    image = draw.image((CASES / name).read_bytes())

    assert pixel(image, image.width // 2, image.height // 2)[3] == 255  # type: ignore[index]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"<!--" + b"x" * 200_000 + b"--><html><svg/></html>", UnsupportedImage),
        (b'<?xml version="1.0" encoding="idna"?>' + PLAIN.encode(), UnsupportedImage),
        (PLAIN.encode()[:-9], BrokenImage),
        (PLAIN.replace("red", "&undefined;").encode(), BrokenImage),
        (squeezed(PLAIN.encode() * 99)[:-20], BrokenImage),
        (b'<?xml version="1.0" encoding="UTF-8"?>' + PLAIN.replace("red", "é").encode("latin-1"), BrokenImage),
        (b"<svg " + SVG.encode() + b">" + b"<g>" * 300 + b"</g>" * 300 + b"</svg>", ImageOverLimit),
    ],
)
def test_a_document_that_cannot_be_drawn_is_refused(draw: Renderer, data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        draw(data)


def test_an_entity_from_outside_stays_empty(draw: Renderer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("red")
    subset = f'<!ENTITY a SYSTEM "{(tmp_path / "secret").as_uri()}"><!ENTITY % b SYSTEM "file:///etc/passwd"> %b;'
    text = f'<!DOCTYPE svg [{subset}]><svg {SVG} width="20" height="20"><style>rect{{fill:&a;}}</style>'

    image = draw.image(f'{text}<rect width="20" height="20" fill="none"/></svg>'.encode())

    assert pixel(image) == (0, 0, 0, 0)


def bomb(per_level: int, levels: int) -> bytes:
    """Entities that grow by `per_level` on each level."""
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * per_level}">' for n in range(levels))
    return f'<!DOCTYPE svg [<!ENTITY e0 "lollollol">{entities}]><svg {SVG}><text>&e{levels};</text></svg>'.encode()


@pytest.mark.parametrize(
    "data",
    [
        bomb(10, 9),
        bomb(2, 40),
        f'<!DOCTYPE svg [<!ENTITY a "{"x" * 60_000}">]><svg {SVG}><text>{"&a;" * 9_000}</text></svg>'.encode(),
        f'<!DOCTYPE svg [<!ENTITY a "&b;"><!ENTITY b "&a;">]><svg {SVG}><text>&a;</text></svg>'.encode(),
        squeezed(b"<svg><!--" + bytes(200_000_000).replace(b"\0", b" ") + b"-->"),
    ],
    ids=["billion laughs", "doubling", "quadratic", "circle", "gzip"],
)
def test_a_bomb_of_text_is_refused_cheaply(draw: Renderer, data: bytes) -> None:
    started = time.process_time()
    with pytest.raises((BrokenImage, ImageOverLimit)) as caught:
        draw(data)

    assert "well-formed" not in caught.value.detail or b"<!ENTITY b" in data
    assert time.process_time() - started < 2


def data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(side: int) -> bytes:
    return saved(Image.new("1", (side, side), 1), "PNG")


SMALL = saved(Image.new("RGB", (9, 9), (255, 0, 0)), "PNG")
PHOTO = saved(Image.new("RGB", (9, 9), (254, 0, 0)), "JPEG")


@pytest.mark.parametrize(
    "url",
    [
        data_url("image/png", SMALL),
        data_url("image/png;charset=x", SMALL).replace("iVBO", "iV\nBO"),
        "data:image/png," + quote(SMALL),
        data_url("image/jpeg", PHOTO),
        data_url("image/svg+xml", root('width="9" height="9"')),
        data_url("image/svg+xml", squeezed(root('width="9" height="9"'))),
    ],
)
def test_an_image_in_a_data_url_is_drawn(draw: Renderer, url: str) -> None:
    image = draw.image(root(content=f'<image width="20" height="20" href="{url}"/>'))

    red, green, blue, alpha = pixel(image)  # type: ignore[misc]
    assert (red > 250, green, blue, alpha) == (True, 0, 0, 255)


def nested(content: str) -> str:
    return f'<image width="9" height="9" href="{data_url("image/svg+xml", root(content=content))}"/>'


HUGE = f'<image width="9" height="9" href="{data_url("image/png", png(9_000))}"/>'


@pytest.mark.parametrize(
    "content",
    [
        HUGE,
        f'<image width="9" height="9" xlink:href="{data_url("text/plain", png(9_000))}"/>',
        f'<filter id="f"><feImage href="data:,{quote(png(9_000))}"/></filter>',
        f'<image width="9" height="9" href="{data_url("image/png", png(5_100))}"/>' * 2,
        nested(HUGE),
        nested(nested(HUGE)),
    ],
    ids=["png", "another type", "feImage", "two", "inside an svg", "inside two"],
)
def test_pixels_of_images_inside_an_svg_count(draw: Renderer, content: str) -> None:
    with pytest.raises(ImageOverLimit, match="inside the svg"):
        draw(root(content=content))


def test_a_data_url_in_an_entity_counts_too(draw: Renderer) -> None:
    url = data_url("image/png", png(9_000))
    halves = f'<!ENTITY a "{url[:99]}"><!ENTITY b "{url[99:]}">'

    with pytest.raises(ImageOverLimit, match="inside the svg"):
        draw(f'<!DOCTYPE svg [{halves}]><svg {SVG}><image href="&a;&b;"/></svg>'.encode())


@pytest.mark.parametrize(
    "content",
    [
        '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="URL"/>',
        '<use href="URL#a" width="20" height="20"/>',
        '<image href="SECRET" width="20" height="20"/>',
        '<image xlink:href="secret.png" width="20" height="20"/>',
        '<style>@import url("SECRET.css");</style>',
        '<rect width="20" height="20" fill="url(SECRET#a)"/>',
        "<script>alert(1)</script>",
    ],
)
def test_references_to_other_documents_are_not_drawn(draw: Renderer, tmp_path: Path, content: str) -> None:
    (tmp_path / "secret.png").write_bytes(SMALL)
    (tmp_path / "secret.png.css").write_text("svg { background: red }")
    url = data_url("image/svg+xml", root('id="a" width="20" height="20"'))

    image = draw.image(root(content=content.replace("URL", url).replace("SECRET", (tmp_path / "secret.png").as_uri())))

    assert image.convert("RGBA").getextrema()[3] == (0, 0)


def test_text_and_attributes_survive_being_written_again(draw: Renderer) -> None:
    """Escapes in attributes and text, and a line break in a style sheet."""
    content = (
        "<style>rect[title=\"a&amp;b &lt; 'c'\"] {\n fill: red }</style>"
        '<rect width="20" height="20" fill="none" title="a&amp;b &lt; &apos;c&apos;"/>'
    )

    assert pixel(draw.image(root(content=content))) == RED


def test_an_svg_is_described(tmp_path: Path) -> None:
    from imgserver.engine.describe import describe

    (tmp_path / "a.svg").write_bytes(root('width="1in" height="2in"'))

    found = describe(str(tmp_path / "a.svg"), LIMITS)

    assert (found.format, found.width, found.height, found.alpha) == ("svg", 96, 192, True)
