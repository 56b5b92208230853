"""What may be rendered: limits and formats, as the settings say and the policy in force changes them.

Asked when a picture is made, never for one that is kept.
"""

from dataclasses import replace

from imgserver.engine.job import Limits
from imgserver.errors import BadOption, UnsupportedImage
from imgserver.plan.plan import Plan
from imgserver.plan.sniffing import format_of
from imgserver.security.policy import FormatLists, PixelLimits


class FormatPolicy:
    """`pixels` and `formats` may be replaced at any time: the next render goes by the new ones."""

    def __init__(self) -> None:
        self.pixels = PixelLimits()
        self.formats = FormatLists()

    def limits(self, limits: Limits) -> Limits:
        source, output = self.pixels.source, self.pixels.output
        return replace(
            limits,
            source_pixels=limits.source_pixels if source is None else source,
            output_pixels=limits.output_pixels if output is None else output,
        )

    def allow(self, plan: Plan) -> None:
        """Raises BadOption for a format that is asked for by its name."""
        name, write = plan.output.format, self.formats.write
        if name not in ("auto", "source", *write) and plan.terminal.kind == "image":
            raise BadOption(f"f: {name} is not written here", argument="f", value=name, allowed=", ".join(write))

    def permitted(self, plan: Plan, head: bytes) -> Plan:
        """The plan for an original that begins with `head`, with no format to choose but those allowed.

        Raises UnsupportedImage.
        """
        source, formats = format_of(head), self.formats
        if source and source not in formats.read:
            raise UnsupportedImage(f"{source} is not read here", format=source)
        output = plan.output
        if output.format == "source" and source not in formats.write:
            return replace(plan, output=replace(output, format="auto", offers=()))
        offers = tuple(offer for offer in output.offers if offer in formats.write)
        return plan if offers == output.offers else replace(plan, output=replace(output, offers=offers))
