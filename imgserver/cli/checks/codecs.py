"""Checks of libvips: every codec and the fonts, each by using it."""

import struct
import tempfile
import zlib
from base64 import b85decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from imgserver.cli.checks.check import Check
from imgserver.engine.job import Job, Limits
from imgserver.errors import ImgserverError
from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import Fit, Output, Plan, Px

# A red square of 16×16 pixels as HEIC, compressed by zlib: no codec here can write HEIC.
HEIC = (
    "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfiWXDwIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfUyTc1A!V4D`#frrGa@MQBfc#l?lqr"
    "C`&d3G5HEIOLE~#USt*&6#(gznFY!DK)MvD%$boHBs2l6NbUo}pT9qTFfi~lCjfOwI56@s{{IhBzzkBs3_^0dm>d#;lA2D8jA$|o6dGBly;?Wx"
    "*#pG|2O1a{cp5;$ElEJtY%Yukiw|}J?GVW<E=Yy?!U2jkl5-M4t`LAa6iomB|NjDzW`fZm@q)~XOpr!q4h{|=C7xN33ky(S7_l@mu`~mjdbufy"
    "pzu`EU|i24B<%Cx$IC+*_BYLct_tJmSAV-&`?2Tz@{JOcR{mcA0L+70+5"
)


def run() -> Iterator[Check]:
    """If libvips cannot be loaded, that is the only check."""
    fix = "pip install --force-reinstall pyvips pyvips-binary"
    try:
        from imgserver.engine.render import render
        from imgserver.engine.vips import open_engine

        codecs = open_engine(svg=True)
    except (ImgserverError, ImportError, OSError) as error:
        yield Check("libvips", False, str(error), fix)
        return
    yield Check("libvips", True, codecs.version)
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        image.write_bytes(tiny_png())
        for name in sorted(name for name, row in FORMATS.items() if row.writable):
            yield _codec(name, image, lambda job: render(job).body)
        yield _bmp(Path(folder), lambda job: render(job).body)
        yield _heic(Path(folder), lambda job: render(job).body)
        yield _fonts(Path(folder), lambda job: render(job).body)


def _codec(name: str, image: Path, render: Callable[[Job], bytes]) -> Check:
    """Encodes a small image, and decodes the result if the format can be read."""
    row = FORMATS[name]
    written = image.with_suffix(row.suffix + ".try")
    title = f"codec {name}"
    steps = (Fit(width=Px(8)),)
    try:
        written.write_bytes(render(Job(str(image), Plan(steps, Output(format=name, quality="good")))))
        if row.readable:
            render(Job(str(written), Plan(steps, Output(format="png"))))
    except ImgserverError as error:
        return Check(title, False, error.detail, "pip install --force-reinstall pyvips-binary")
    return Check(title, True, "writes and reads" if row.readable else "writes")


def _bmp(folder: Path, render: Callable[[Job], bytes]) -> Check:
    """Decodes one of 8×8 black pixels, for BMP and ICO: the same library reads both."""
    file, pixels = folder / "image.bmp", bytes(8 * 8 * 3)
    file.write_bytes(
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54 + len(pixels), 0, 54, 40, 8, 8, 1, 24, *[0] * 6) + pixels
    )
    try:
        render(Job(str(file), Plan(output=Output(format="png"))))
    except (ImgserverError, ImportError) as error:
        return Check("codecs bmp, ico", False, str(error), "pip install --force-reinstall pillow")
    return Check("codecs bmp, ico", True, "reads")


def _heic(folder: Path, render: Callable[[Job], bytes]) -> Check:
    """Decodes one. Not needed: HEIC is an extra."""
    file = folder / "image.heic"
    file.write_bytes(zlib.decompress(b85decode(HEIC)))
    try:
        render(Job(str(file), Plan((Fit(width=Px(8)),), Output(format="png"))))
    except ImgserverError as error:
        return Check("codec heic", False, error.detail, "pip install 'imgserver[heic]'", needed=False)
    return Check("codec heic", True, "reads")


def _fonts(folder: Path, render: Callable[[Job], bytes]) -> Check:
    """Text without a font leaves the image empty. Not needed: only SVG originals contain text."""
    limits = replace(Limits(), svg=True)
    drawn = set()
    for text in ("", "Wg"):
        file = folder / "text.svg"
        body = f'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="32"><text y="24">{text}</text></svg>'
        file.write_text(body)
        try:
            drawn.add(render(Job(str(file), Plan(output=Output(format="png")), limits)))
        except ImgserverError as error:
            return Check("fonts", False, error.detail, "install a libvips with SVG", needed=False)
    ok = len(drawn) == 2
    fix = "" if ok else "install a font, such as the package fonts-dejavu-core; without one, text in SVG is not drawn"
    return Check("fonts", ok, "text is drawn" if ok else "no font found", fix, needed=False)


def tiny_png() -> bytes:
    """A gradient of 16×16 pixels, encoded without libvips."""
    rows = b"".join(b"\0" + bytes(16 * value for x in range(16) for value in (x, y, 8)) for y in range(16))
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
