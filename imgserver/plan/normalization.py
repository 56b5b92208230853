"""The normal form of a plan: equal for all plans that give the same image."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import (
    CENTER,
    TRANSPARENT,
    WHITE,
    ZERO,
    Anchor,
    Canvas,
    Color,
    Crop,
    Fill,
    Fit,
    Flatten,
    Kernel,
    Length,
    Mask,
    Output,
    Plan,
    Px,
    Rel,
    Step,
    Terminal,
    Tone,
    Trim,
    Turn,
)

WHOLE = Rel(Fraction(1))
NEUTRAL_TONE = {"brightness": 1, "contrast": 1, "saturation": 1, "gamma": 1, "opacity": 1}

# The eight rigid motions as matrices (x' = ax + by, y' = cx + dy; y points down), by EXIF orientation.
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, -1, 1, 0),
    7: (0, -1, -1, 0),
    8: (0, 1, -1, 0),
}
MOTIONS = {matrix: motion for motion, matrix in MATRICES.items()}
QUARTERS = {0: 1, 90: 6, 180: 3, 270: 8}


def normalize(plan: Plan) -> Plan:
    """The normal form of a plan: equal for all plans that give the same image. Idempotent; changes no pixel and no
    size."""
    steps: list[Step] = []
    for step in plan.steps:
        _append(steps, step)
    terminal = plan.terminal if plan.terminal.kind == "palette" else Terminal(plan.terminal.kind)
    return Plan(tuple(steps), _output(plan.output, terminal), terminal)


def join_motions(first: int, second: int) -> int:
    """The rigid motion (1-8) that has the effect of `first` followed by `second`."""
    a, b, c, d = MATRICES[second]
    e, f, g, h = MATRICES[first]
    return MOTIONS[(a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)]


def _append(steps: list[Step], step: Step) -> None:
    plain = _NORMALIZERS[type(step)](step) if type(step) in _NORMALIZERS else step
    if plain is None:
        return
    last = steps[-1] if steps else None
    if not (isinstance(plain, Turn) and isinstance(last, Turn) and _is_rigid(plain) and _is_rigid(last)):
        steps.append(plain)
        return
    steps.pop()
    motion = join_motions(last.motion, plain.motion)
    if motion != 1:
        # No rigid turn can precede this one: two of them never remain next to each other.
        steps.append(Turn(motion))


def _is_rigid(turn: Turn) -> bool:
    return turn.degrees == 0


def _trim(step: Trim) -> Step | None:
    return step if step.by == "color" or step.color is None else replace(step, color=None)


def _crop(step: Crop) -> Step | None:
    width, height, ratio = step.width, step.height, step.ratio
    if ratio is not None:
        width, height, ratio = _other_side(width, height, ratio)
    if ratio is None:
        width = None if width == WHOLE else width
        height = None if height == WHOLE else height
    anchor = _anchor(step.anchor)
    if (width, height, ratio) == (None, None, None) and step.zoom == 1 and _is_still(anchor):
        return None
    return Crop(width, height, ratio, anchor, step.zoom, step.outside)


def _is_still(anchor: Anchor) -> bool:
    """Whether a window of the size of the image stays at its place with this anchor."""
    return anchor.kind != "focal" and anchor.dx == ZERO and anchor.dy == ZERO


def _fit(step: Fit) -> Step | None:
    width, height, ratio = step.width, step.height, step.ratio
    if width is None and height is None:
        return _fit_ratio(step)
    if ratio is not None:
        width, height, ratio = _other_side(width, height, ratio)
    mode, enlarge, finish = step.mode, step.enlarge, step.finish
    one_side = width is None or height is None
    if ratio is None and not isinstance(width, Px) and not isinstance(height, Px):
        if width in (None, WHOLE) and height in (None, WHOLE) and (not one_side or finish == "none"):
            return None
        enlarge = "deny"  # a fraction of at most 1 never enlarges
    if one_side and ratio is None and finish == "none":
        mode = "contain"  # with one side, both axes are scaled by the same factor in every mode
    anchor = _anchor(step.anchor) if finish != "none" else CENTER
    fill = _fill(step.fill) if finish == "pad" else TRANSPARENT
    return Fit(width, height, ratio, mode, enlarge, step.shrink, finish, anchor, fill)


def _fit_ratio(step: Fit) -> Step | None:
    """A ratio without sides crops or pads and never scales, so that the fields about scaling have no effect."""
    if step.ratio is None or step.finish == "none":
        return None
    fill = _fill(step.fill) if step.finish == "pad" else TRANSPARENT
    return Fit(ratio=step.ratio, mode=step.mode, finish=step.finish, anchor=_anchor(step.anchor), fill=fill)


def _other_side(
    width: Length | None, height: Length | None, ratio: Fraction
) -> tuple[Length | None, Length | None, Fraction | None]:
    """Replaces a ratio next to a side in pixels by the other side, exactly. Next to a fraction the ratio stays, because
    the side then depends on the image."""
    if isinstance(width, Px) and height is None:
        return width, Px(width.value / ratio), None
    if isinstance(height, Px) and width is None:
        return Px(height.value * ratio), height, None
    if width is not None and height is not None:
        return width, height, None
    return width, height, ratio


def _canvas(step: Canvas) -> Step | None:
    top, right, bottom, left = map(_length, step.margins)
    margins = (top, right, bottom, left)
    return None if margins == (ZERO, ZERO, ZERO, ZERO) else Canvas(margins, _fill(step.fill))


def _turn(step: Turn) -> Step | None:
    degrees = step.degrees % 360
    if degrees in QUARTERS:
        motion = join_motions(step.motion, QUARTERS[degrees])
        return None if motion == 1 else Turn(motion)
    return Turn(step.motion, degrees, _fill(step.fill))


def _tone(step: Tone) -> Step | None:
    amount = step.amount % 360 if step.name == "hue" else step.amount
    if amount == NEUTRAL_TONE.get(step.name, 0):
        return None
    return Tone(step.name, amount)


def _kernel(step: Kernel) -> Step | None:
    return None if step.amount == 0 else step


def _mask(step: Mask) -> Step | None:
    if step.ellipse:
        return Mask(ellipse=True)
    return step if any(step.radii) else None


def _flatten(step: Flatten) -> Step | None:
    return step if step.color.alpha else None


def _anchor(anchor: Anchor) -> Anchor:
    if anchor is CENTER:
        return anchor
    dx, dy = _length(anchor.dx), _length(anchor.dy)
    if anchor.kind != "focal":
        return Anchor(anchor.kind, dx=dx, dy=dy)
    return Anchor("focal", _length(anchor.fx), _length(anchor.fy), dx, dy)


def _length(length: Length) -> Length:
    """Zero pixels and a zero fraction are equal."""
    return ZERO if length == Rel(Fraction(0)) else length


def _fill(fill: Fill) -> Fill:
    return TRANSPARENT if isinstance(fill, Color) and fill.alpha == 0 else fill


_NORMALIZERS: dict[type[Step], Callable[[Any], Step | None]] = {
    Trim: _trim,
    Crop: _crop,
    Fit: _fit,
    Canvas: _canvas,
    Turn: _turn,
    Tone: _tone,
    Kernel: _kernel,
    Mask: _mask,
    Flatten: _flatten,
}


def _output(output: Output, terminal: Terminal) -> Output:
    if terminal.kind != "image":
        return Output(frames=output.frames, profile=output.profile, background=output.background)
    concrete = FORMATS.get(output.format)
    if concrete is None:
        return replace(output, offers=output.offers if output.format == "auto" else ())
    lossless = output.lossless and concrete.lossless and concrete.lossy
    return replace(
        output,
        offers=(),
        quality=_quality(output, concrete.lossy and not lossless),
        lossless=lossless,
        progressive=output.progressive if concrete.progressive else None,
        # Not the same as page 1: of several images, the primary one is shown, which may be another.
        frames="auto" if output.frames == "first" and not concrete.animation else output.frames,
        background=WHITE if concrete.alpha else output.background,
    )


def _quality(output: Output, matters: bool) -> Any:
    """A level stays a level: it also says that the result shall not be larger than its original."""
    return output.quality if matters else "auto"
