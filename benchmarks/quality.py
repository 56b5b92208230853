"""Quality and CPU of a resize, imgserver against bare libvips. Run: python -m benchmarks.quality [--encoders]

Four photographs, encoded as baseline JPEG q92 as cameras write them, are scaled to 600 px and encoded as JPEG q80. The
score is SSIMULACRA2 against a full decode of the same size that is scaled in linear light. The variants take turns. CPU
is `getrusage` of this process on one core, the least of all rounds; compare ratios, not milliseconds.
"""

import argparse
import resource
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyvips
from rich.console import Console
from rich.table import Table
from ssimulacra2 import compute_ssimulacra2

from imgserver.engine.job import Job, Quality
from imgserver.engine.render import render
from imgserver.engine.vips import open_engine
from imgserver.plan.plan import Fit, Orient, Output, Plan, Px

SAMPLES = Path(__file__).parents[1] / "samples"
NAMES = ("sunset", "creek", "dogs", "mountains")
WIDTH = 600
PLAIN = {"Q": 80, "optimize_coding": True, "keep": "none"}
# The options of imgserver's encoder for an image of this size: the budget compares equal work.
IMGSERVER = {**PLAIN, "interlace": True, "quant_table": 3}
Image = Any
Variant = Callable[[Path, int, int], bytes]


@dataclass
class Measurements:
    """Of one variant, for each photograph: the score, CPU seconds and bytes."""

    scores: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", action="store_true", help="compare the JPEG encoder's options instead")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    open_engine()
    with tempfile.TemporaryDirectory() as folder:
        photos = [camera_jpeg(name, Path(folder)) for name in NAMES]
        if options.encoders:
            encoders(photos, Path(folder), rounds=options.rounds)
        else:
            resizing(photos, Path(folder), rounds=options.rounds)


def camera_jpeg(name: str, folder: Path) -> Path:
    """A sample photograph as a camera writes it."""
    path = folder / f"{name}.jpg"
    pyvips.Image.new_from_file(str(SAMPLES / f"{name}.jpg")).autorot().jpegsave(str(path), Q=92, keep="none")
    return path


def thumbnail(**save: Any) -> Variant:
    return lambda path, w, h: pyvips.Image.thumbnail(str(path), w, height=h, size="force").jpegsave_buffer(**save)


def shrunk(by: int) -> Variant:
    """The decoder's reduction (shrink-on-load), then lanczos3, without headroom."""

    def run(path: Path, w: int, h: int) -> bytes:
        return bytes(_scaled(_open(path, shrink=by), w, h).jpegsave_buffer(**PLAIN))

    return run


def reference(path: Path, w: int, h: int) -> Image:
    return _scaled(_open(path).colourspace("scrgb"), w, h).colourspace("srgb")


def imgserver(**quality: Any) -> Variant:
    """The engine of imgserver with these settings of quality."""

    def run(path: Path, w: int, h: int) -> bytes:
        plan = Plan((Orient(), Fit(Px(w), Px(h), mode="exact")), Output("jpg", quality=80))
        return render(Job(str(path), plan, quality=Quality(**quality))).body

    return run


VARIANTS: dict[str, Variant] = {
    "libvips thumbnail": thumbnail(**PLAIN),
    "libvips thumbnail, imgserver's save options": thumbnail(**IMGSERVER),
    "decoder shrink 4, no headroom": shrunk(4),
    "imgserver": imgserver(),
    "imgserver, headroom 1": imgserver(shrink_headroom=1),
    "imgserver, linear light": imgserver(linear_light=True),
    "full decode in linear light": lambda path, w, h: bytes(reference(path, w, h).jpegsave_buffer(**PLAIN)),
}


def resizing(photos: list[Path], folder: Path, *, rounds: int) -> None:
    measurements = {name: Measurements() for name in VARIANTS}
    for photo in photos:
        image = pyvips.Image.new_from_file(str(photo))
        size = WIDTH, int(image.height * WIDTH / image.width + 0.5)
        measure(
            {name: _call(variant, photo, size) for name, variant in VARIANTS.items()},
            measurements,
            reference=reference(photo, *size),
            folder=folder,
            rounds=rounds,
        )
    show(
        f"{len(photos)} photographs to {WIDTH} px, JPEG q80",
        measurements,
        base="libvips thumbnail, imgserver's save options",
    )


def _call(variant: Variant, photo: Path, size: tuple[int, int]) -> Callable[[], bytes]:
    return lambda: variant(photo, *size)


ENCODERS: dict[str, dict[str, Any]] = {
    "standard tables": {"Q": 80, "keep": "none"},
    "optimized": PLAIN,
    "optimized, quant_table 3": {**PLAIN, "quant_table": 3},
    "the same, progressive": IMGSERVER,
    "the same, trellis": {**IMGSERVER, "trellis_quant": True},
    "the same, all mozjpeg passes": {
        **IMGSERVER,
        "trellis_quant": True,
        "overshoot_deringing": True,
        "optimize_scans": True,
    },
}


def encoders(photos: list[Path], folder: Path, *, rounds: int) -> None:
    for width in (100, 300, 800):
        measurements = {name: Measurements() for name in ENCODERS}
        for photo in photos:
            image = pyvips.Image.thumbnail(str(photo), width).copy_memory()
            calls = {name: _saving(image, options) for name, options in ENCODERS.items()}
            measure(calls, measurements, reference=image, folder=folder, rounds=rounds)
        show(f"JPEG encoder at {width} px, q80", measurements, base="optimized")


def _saving(image: Image, options: dict[str, Any]) -> Callable[[], bytes]:
    return lambda: bytes(image.jpegsave_buffer(**options))


def measure(
    calls: dict[str, Callable[[], bytes]],
    measurements: dict[str, Measurements],
    *,
    reference: Image,
    folder: Path,
    rounds: int,
) -> None:
    """Runs all calls in turns, and adds score, least CPU and size of each to its measurements."""
    expected, actual = folder / "expected.png", folder / "actual.png"
    reference.write_to_file(str(expected))
    times: dict[str, list[float]] = {name: [] for name in calls}
    bodies: dict[str, bytes] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            before = cpu_seconds()
            bodies[name] = call()
            times[name].append(cpu_seconds() - before)
    for name, body in bodies.items():
        pyvips.Image.new_from_buffer(body, "").write_to_file(str(actual))
        # The metric needs images of at least 64 pixels.
        score = compute_ssimulacra2(str(expected), str(actual)) if min(reference.width, reference.height) >= 64 else 0.0
        measurements[name].scores.append(score)
        measurements[name].cpu.append(min(times[name]))
        measurements[name].sizes.append(len(body))


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def show(title: str, measurements: dict[str, Measurements], *, base: str) -> None:
    table = Table(title=title)
    for heading in ("variant", "SSIMULACRA2", "CPU ms", "CPU ratio", "kB", "bytes ratio"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name, found in measurements.items():
        table.add_row(
            name,
            f"{statistics.mean(found.scores):.1f}",
            f"{statistics.mean(found.cpu) * 1000:.1f}",
            f"{sum(found.cpu) / sum(measurements[base].cpu):.2f}",
            f"{statistics.mean(found.sizes) / 1000:.1f}",
            f"{sum(found.sizes) / sum(measurements[base].sizes):.3f}",
        )
    Console().print(table)


def _open(path: Path, **options: Any) -> Image:
    return pyvips.Image.jpegload(str(path), access="sequential", **options)


def _scaled(image: Image, w: int, h: int) -> Image:
    return image.resize(w / image.width, vscale=h / image.height)


if __name__ == "__main__":
    main()
