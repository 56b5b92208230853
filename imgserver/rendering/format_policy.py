"""Which formats and sizes may be rendered: the settings' limits as the policy in force changes them.

The policy is applied to renders, never to renditions that are already cached.
"""

from dataclasses import replace

from imgserver.engine.job import Limits
from imgserver.errors import BadOption, UnsupportedImage
from imgserver.plan.plan import Plan
from imgserver.plan.sniffing import format_of
from imgserver.security.policy import FormatLists, PixelLimits


class FormatPolicy:
    """`pixels` and `formats` may be replaced at any time. The next render follows the new ones."""

    def __init__(self) -> None:
        self.pixels = PixelLimits()
        self.formats = FormatLists()

    def limits(self, limits: Limits) -> Limits:
        """The limits with the policy's numbers of pixels, where it sets any."""
        source, output = self.pixels.source, self.pixels.output
        if source is None and output is None:
            return limits
        return replace(
            limits,
            source_pixels=limits.source_pixels if source is None else source,
            output_pixels=limits.output_pixels if output is None else output,
        )

    def check_output(self, plan: Plan) -> None:
        """Raises BadOption if the URL names an output format that the policy does not allow."""
        name, write = plan.output.format, self.formats.write
        if name not in ("auto", "source", *write) and plan.terminal.kind == "image":
            raise BadOption(f"f: {name} is not written here", argument="f", value=name, allowed=", ".join(write))

    def permitted_plan(self, plan: Plan, head: bytes) -> Plan:
        """The plan restricted to allowed output formats, for an original that begins with the bytes `head`.

        Raises UnsupportedImage if the policy does not allow the original's format.
        """
        source, formats = format_of(head), self.formats
        if source and source not in formats.read:
            raise UnsupportedImage(f"{source} is not read here", format=source)
        output = plan.output
        if output.format == "source" and source not in formats.write:
            return replace(plan, output=replace(output, format="auto", offers=()))
        if set(formats.write).issuperset(output.offers):
            return plan
        offers = tuple(offer for offer in output.offers if offer in formats.write)
        return replace(plan, output=replace(output, offers=offers))
