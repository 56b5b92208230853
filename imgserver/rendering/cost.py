"""The cost model: what a render will cost in CPU seconds and decoded bytes, estimated before it starts."""

from collections import deque
from dataclasses import dataclass, replace
from statistics import median, median_low

from imgserver.engine.job import Limits, Quality
from imgserver.errors import ImgserverError
from imgserver.plan import formats
from imgserver.plan.geometry import bind_plan, check
from imgserver.plan.plan import Dims, Plan
from imgserver.plan.sniffing import Sniffed, sniff

MEGA = 1_000_000
BYTES_PER_PIXEL = 4
# Rows that a sequential decode holds in memory at the same time; a high estimate.
SEQUENTIAL_ROWS = 300

# CPU seconds per megapixel. Mainly their ratios matter: observed renders correct the rest.
DECODE = {
    "jpg": 0.012,
    "png": 0.025,
    "webp": 0.025,
    "avif": 0.04,
    "heic": 0.03,
    "gif": 0.012,
    "tiff": 0.008,
    "svg": 0.05,
    "bmp": 0.008,
    "ico": 0.02,
}
ENCODE = {"jpg": 0.02, "png": 0.1, "webp": 0.12, "gif": 0.2, "tiff": 0.02}
ENCODE_UNKNOWN = 0.1
# AVIF by encoder effort. The step between 2 and 4 is the reason why costs are estimated at all.
AVIF_ENCODE = (0.16, 0.4, 0.9, 2.5, 6.5)
# The HEIC decoder holds planes of 16 bits and copied rows in addition to the finished pixels.
HEIC_FACTOR = 2
WHOLE_FRAME = frozenset({"gif", "webp", "avif", "heic", "jxl", "bmp", "ico"})

# Real times remembered per kind of render, and renders remembered for the service rate.
OBSERVATIONS = 15
RENDERS = 63
# How much one observation moves a running mean, and by which factor a correction may differ from the table.
WEIGHT = 0.1
CORRECTION_LIMIT = 20.0
OVERHEAD_SECONDS = 0.002
FIRST_GUESS_SECONDS = 0.1
# Until enough renders are known, the guess that estimates are right counts as so many seconds of them: the first
# renders of a worker load its codecs, and say little about the next ones.
GUESS_WEIGHT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated CPU seconds, and the most bytes of decoded pixels held at any moment of the render."""

    seconds: float
    decoded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """What the server process knows about a render before it starts. Sizes are in pixels of one frame.

    `whole`: the decoder must hold the whole frame, in any format (interlaced, progressive, a quarter turn).
    `effort` is on the encoder's scale; None for its default.
    """

    source_format: str
    source_width: int
    source_height: int
    output_format: str
    output_width: int
    output_height: int
    frames: int = 1
    effort: int | None = None
    whole: bool = False

    @property
    def kind(self) -> "Kind":
        return self.source_format, self.output_format, self.effort, self.frames > 1


# Source format, output format, effort, and whether it is an animation.
Kind = tuple[str, str, int | None, bool]


class CostModel:
    """A table of factors, corrected per kind of render by the median of the last 15 real times.

    A median, so that one odd picture does not spoil the estimates of others of its kind.
    """

    def __init__(self) -> None:
        self._ratios: dict[Kind, deque[float]] = {}

    def estimate(self, work: Workload) -> Cost:
        seconds = _table_seconds(work) * self._correction(work.kind)
        return Cost(seconds=seconds, decoded_bytes=decoded_bytes(work))

    def observe(self, work: Workload, *, cpu_seconds: float) -> None:
        """Corrects the model by what a render of this kind really took. `work` has the real number of frames."""
        ratio = cpu_seconds / _table_seconds(work)
        ratio = min(max(ratio, 1 / CORRECTION_LIMIT), CORRECTION_LIMIT)
        # The table counts as one observation, so that the first real time alone decides nothing.
        self._ratios.setdefault(work.kind, deque([1.0], maxlen=OBSERVATIONS)).append(ratio)

    def _correction(self, kind: Kind) -> float:
        ratios = self._ratios.get(kind)
        return median_low(ratios) if ratios else 1.0

    def __repr__(self) -> str:
        kinds = (f"{kind[0]}>{kind[1]} x {self._correction(kind):.2f}" for kind in self._ratios)
        return f"<CostModel {', '.join(kinds) or 'uncorrected'}>"


class ServiceRate:
    """How fast one worker works off estimated costs, learned from finished renders.

    Estimates are CPU seconds. Waits are wall seconds. The rate is the sum of the estimates divided by the sum of the
    times: expensive renders count more, and a cheap one that took unusually long changes little.
    """

    def __init__(self) -> None:
        self._typical_cost = FIRST_GUESS_SECONDS
        self._renders: deque[tuple[float, float]] = deque(maxlen=RENDERS)
        self._rate = 1.0  # seconds of estimated cost per second of a worker
        self._median = FIRST_GUESS_SECONDS

    def seconds(self, cost_seconds: float) -> float:
        """For how long this estimated cost will hold a worker."""
        return cost_seconds / self._rate

    def typical_seconds(self) -> float:
        """For how long a render of unknown cost will hold a worker: the running mean."""
        return self._typical_cost / self._rate

    def median_seconds(self) -> float:
        """For how long the median of the last 63 renders held its worker."""
        return self._median

    def learn(self, *, held_seconds: float, cost: Cost) -> None:
        """Learns from a render that held its worker for `held_seconds`."""
        self._renders.append((cost.seconds, held_seconds))
        self._median = median(held for _, held in self._renders)
        self._typical_cost += WEIGHT * (cost.seconds - self._typical_cost)
        guess = GUESS_WEIGHT_SECONDS * (1 - len(self._renders) / RENDERS)
        costs = guess + sum(seconds for seconds, _ in self._renders)
        held = guess + sum(seconds for _, seconds in self._renders)
        self._rate = min(max(costs / held, 1 / CORRECTION_LIMIT), CORRECTION_LIMIT)


def decoded_bytes(work: Workload) -> int:
    """The most bytes of pixels held at any moment: the whole image if decoding cannot stream, else a band of rows."""
    if work.whole or work.source_format in WHOLE_FRAME:
        pixels = work.source_width * work.source_height * work.frames
        return pixels * BYTES_PER_PIXEL * (HEIC_FACTOR if work.source_format == "heic" else 1)
    return work.source_width * min(work.source_height, SEQUENTIAL_ROWS) * BYTES_PER_PIXEL


def _table_seconds(work: Workload) -> float:
    source = work.source_width * work.source_height * work.frames / MEGA
    output = work.output_width * work.output_height * work.frames / MEGA
    decode = DECODE.get(work.source_format, DECODE["png"])
    return OVERHEAD_SECONDS + source * decode + output * _encode_factor(work.output_format, work.effort)


def _encode_factor(name: str, effort: int | None) -> float:
    if name == "avif":
        level = 2 if effort is None else max(0, min(effort, len(AVIF_ENCODE) - 1))
        return AVIF_ENCODE[level]
    return ENCODE.get(name, ENCODE_UNKNOWN)


# The workload as the original's first bytes suggest it. The worker decides by the real header.

# Pixels of a file whose header gives no size; a high estimate, because photographs take 0.1 to 1 byte per pixel.
PIXELS_PER_BYTE = 4
# Formats whose frames are all decoded if the output is an animation as well.
ANIMATED = ("gif", "webp")


def estimate_workload(
    head: bytes, source_bytes: int, plan: Plan, *, quality: Quality, limits: Limits, frames: int = 1
) -> Workload:
    """The workload of a plan, from the first bytes, the length and the frames of its original.

    Never raises. Unknown sizes are guessed. What the worker will refuse is estimated to cost almost nothing.
    """
    seen = replace(sniff(head), animated=frames > 1)
    width, height = _size(seen, source_bytes, limits, frames)
    output = _output_format(seen, plan)
    after = _output_size(plan, Dims(width, height, 1, frames), limits)
    return Workload(
        source_format=seen.format,
        source_width=width,
        source_height=height,
        output_format=output,
        output_width=after.width,
        output_height=after.height,
        frames=frames if width > 1 else 1,
        effort=_effort(output, after, plan, quality),
        whole=seen.whole,
    )


def may_animate(head: bytes, plan: Plan) -> bool:
    """Whether the frames of the original count: it can be an animation, and so can the result."""
    seen = sniff(head)
    if seen.format not in ANIMATED or plan.output.frames not in ("auto", "all"):
        return False
    # A GIF of several frames that is played once has no mark in its head.
    is_animated = seen.animated or seen.format == "gif"
    return is_animated and formats.FORMATS[_output_format(replace(seen, animated=True), plan)].animation


def _size(seen: Sniffed, source_bytes: int, limits: Limits, frames: int) -> tuple[int, int]:
    if not seen.format or source_bytes > limits.source_bytes:
        return 1, 1
    if seen.width and seen.height:
        return (1, 1) if _is_over(seen.width, seen.height, frames, limits) else (seen.width, seen.height)
    side = max(1, int(min(source_bytes * PIXELS_PER_BYTE, limits.source_pixels) ** 0.5))
    return side, side


def _is_over(width: int, height: int, frames: int, limits: Limits) -> bool:
    """Whether the worker will refuse the original, as a decompression bomb."""
    pixels = width * height * frames
    return max(width, height) > limits.source_side or pixels > limits.source_pixels or frames > limits.frames


def _output_size(plan: Plan, dims: Dims, limits: Limits) -> Dims:
    try:
        bounds = bind_plan(plan, dims)
        check(bounds, side=limits.output_side, pixels=limits.output_pixels)
        return bounds.after
    except ImgserverError:
        return Dims(1, 1)


def _output_format(seen: Sniffed, plan: Plan) -> str:
    """The output format; "jpg", which is cheap, if no image will be written."""
    if plan.terminal.kind != "image":
        return "jpg"
    try:
        return formats.choose(plan.output, source=seen.format, source_alpha=False, alpha=False, animated=seen.animated)
    except ImgserverError:
        return "jpg"


def _effort(output: str, after: Dims, plan: Plan, quality: Quality) -> int | None:
    if output != "avif":
        return None
    if plan.output.effort is not None:
        return plan.output.effort
    return quality.avif_effort_for(after.width * after.height)
