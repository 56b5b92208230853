"""The identity of a result, once the header of its original is known: equal for plans that give the same image of it.

A plan is written before its original is opened, so that `w_2000` and `w_3000` differ, although neither changes an image
of 1200 pixels. Here each step is written with the sizes that it makes: the engine uses nothing else of it.
"""

from dataclasses import replace

from imgserver.errors import ImgserverError
from imgserver.plan.canonical import canonical, digest
from imgserver.plan.formats import possible_formats
from imgserver.plan.geometry import Bound, bind_plan
from imgserver.plan.normalization import normalize
from imgserver.plan.plan import Canvas, Crop, Dims, Fit, Orient, Plan


def result_digest(plan: Plan, source_format: str, dims: Dims) -> str | None:
    """A digest of the result of a negotiated plan for an original of this format and size (one page, as stored).

    None if no two plans need be compared: for results other than images, and for a plan that this original refuses.
    """
    if plan.terminal.kind != "image":
        return None
    plan = normalize(plan)
    try:
        bounds, output = bind_plan(plan, dims), _output_text(plan, source_format)
    except ImgserverError:
        return None
    last_fit = max((number for number, step in enumerate(plan.steps) if isinstance(step, Fit)), default=-1)
    texts = (_text_of(bound, is_last_fit=number == last_fit) for number, bound in enumerate(bounds.bounds))
    return digest(*filter(None, texts), canonical(Plan(bounds.rest)), output)


def _text_of(bound: Bound, *, is_last_fit: bool) -> str:
    """The step with its sizes; "" for one that changes nothing."""
    step, before = bound.step, (bound.before.width, bound.before.height)
    match step:
        case Orient(mode=mode):
            motion = bound.before.orientation if mode == "exif" else mode
            return "" if motion == 1 else f"orient {motion}"
        case Crop():
            # A smart crop keeps the engine from decoding the image at a reduced size, even one that cuts nothing.
            unchanged = bound.size == before and not step.anchor.is_smart
            return "" if unchanged else f"crop {_window(bound)}"
        case Fit():
            if bound.size == bound.scaled:
                # Before another Fit, it decides at which size the image is decoded.
                return "" if bound.size == before and is_last_fit else f"fit {bound.scaled}"
            fill = f" {step.fill}" if step.finish == "pad" else ""
            return f"fit {bound.scaled} {step.finish} {_window(bound)}{fill}"
        case Canvas():
            return f"canvas {_window(bound)} {step.fill}"
        case _:
            return canonical(Plan((step,)))


def _window(bound: Bound) -> str:
    step = bound.step
    if isinstance(step, Fit | Crop) and step.anchor.is_smart and not (isinstance(step, Fit) and step.finish == "pad"):
        return f"{bound.size} {step.anchor.kind}"
    return f"{bound.size} {bound.box}"


def _output_text(plan: Plan, source_format: str) -> str:
    """The output with the format that it becomes, if that is certain, and without what has no effect on this format.

    Raises NotInThisBuild.
    """
    if plan.output.format == "source":
        names = possible_formats(plan, source_format)
        if len(names) == 1:
            plan = normalize(replace(plan, output=replace(plan.output, format=next(iter(names)))))
    return canonical(Plan((), plan.output))
