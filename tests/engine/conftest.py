"""These tests run the engine in their own process, which must not fork afterwards."""

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgserver.engine.job import Job, Limits, Quality, RenderResult
from imgserver.engine.render import render
from imgserver.engine.vips import open_engine
from imgserver.plan.plan import Output, Plan, Step, Terminal
from tests.running_server import SAMPLES


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    open_engine()


@dataclass(frozen=True)
class Renderer:
    """Renders a sample by name, a file, or bytes."""

    folder: Path
    limits: Limits = field(default_factory=Limits)
    quality: Quality = field(default_factory=Quality)

    def __call__(
        self,
        source: str | Path | bytes,
        *steps: Step,
        terminal: Terminal | None = None,
        limits: Limits | None = None,
        quality: Quality | None = None,
        **output: Any,
    ) -> RenderResult:
        if isinstance(source, bytes):
            path = self.folder / "original"
            path.write_bytes(source)
        else:
            path = SAMPLES / source
        plan = Plan(steps, Output(**output), terminal or Terminal())
        return render(Job(str(path), plan, limits or self.limits, quality or self.quality))

    def image(self, source: str | Path | bytes, *steps: Step, **output: Any) -> Image.Image:
        """The result as a Pillow image, with its colors in place of indexes into a palette."""
        image = opened(self(source, *steps, **{"format": "png"} | output).body)
        if image.mode != "P":
            return image
        return image.convert("RGBA" if "transparency" in image.info else "RGB")


@pytest.fixture
def draw(tmp_path: Path) -> Renderer:
    return Renderer(tmp_path)


def opened(body: bytes) -> Image.Image:
    image = Image.open(BytesIO(body))
    image.load()
    return image


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def difference(one: Image.Image, other: Image.Image, *, side: int = 16) -> float:
    """The largest difference of a channel, 0-255, between two images that are scaled down to `side` pixels."""
    small = [image.convert("RGBA").resize((side, side), Image.Resampling.BOX).tobytes() for image in (one, other)]
    return max(abs(a - b) for a, b in zip(*small, strict=True))
