"""Presets: names for options. `t_card`, alone in its segment, is replaced by its text and then parsed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from imgserver.dialects.native.lexer import VISIBLE, RawSegment, is_options
from imgserver.dialects.native.messages import bad_rule, bad_value
from imgserver.dialects.native.segment import Segment, parse_segment
from imgserver.dialects.native.settings import NativeSettings
from imgserver.errors import BadOption


@dataclass(frozen=True, slots=True)
class Presets:
    """Texts by name, each one or more segments without faults (`text_faults`)."""

    settings: NativeSettings
    texts: Mapping[str, str] = field(default_factory=dict)

    def expand(self, segments: Iterable[RawSegment], *, signed: bool) -> list[RawSegment]:
        """The segments with each preset replaced by its text.

        Raises BadOption for an unknown preset, for options that are no preset if the server allows presets only, and
        for a second preset in an unsigned URL of a server that bounds the renditions of an original.
        """
        expanded: list[RawSegment] = []
        presets = 0
        for segment in segments:
            presets += _is_preset(segment)
            if presets > 1 and self.settings.bounds_renditions and not signed:
                raise _over_bound("t", segment, "an unsigned URL may name one preset here")
            expanded += self._expand(segment)
        if len(expanded) > self.settings.max_segments:
            raise BadOption(f"presets make more than {self.settings.max_segments} option segments", at=expanded[-1].at)
        return expanded

    def _expand(self, segment: RawSegment) -> Iterator[RawSegment]:
        if _is_preset(segment):
            yield from self._replace(segment)
        # The expiry of a URL is always allowed: it does not change the image.
        elif self.settings.presets_only and _keys(segment) != {"exp"}:
            sentence = f"this server allows presets only, such as t_{next(iter(self.texts), 'name')}"
            raise BadOption(sentence, argument=segment.text.partition("_")[0], value=segment.text, at=segment.at)
        else:
            yield segment

    def _replace(self, raw: RawSegment) -> Iterator[RawSegment]:
        segment = parse_segment(raw, self.settings)
        option = segment.written["t"]
        if len(segment.written) > 1:
            raise bad_rule(option, "a preset is alone in its segment")
        text = self.texts.get(segment.preset or "")
        if text is None:
            raise bad_value(option, "the name of a preset of this server", words=tuple(self.texts))
        return (RawSegment(part, raw.at, preset=True) for part in text.split("/"))


def check_size_steps(segments: Iterable[tuple[RawSegment, Segment]]) -> None:
    """For unsigned URLs on a server with snapped sizes: a chain of sizes would have as many results as the list has
    widths, to the power of its length.

    The sizes of presets do not count, because the operator chose them, nor do the windows of c_crop, which are not
    snapped. Raises BadOption.
    """
    sizes = [raw for raw, segment in segments if segment.has_side and segment.crop != "crop" and not raw.preset]
    if len(sizes) > 1:
        raise _over_bound("w", sizes[1], "an unsigned URL may scale once here")


def _is_preset(segment: RawSegment) -> bool:
    return "t" in _keys(segment)


def _keys(segment: RawSegment) -> set[str]:
    return {part.partition("_")[0] for part in segment.text.split(",")}


def _over_bound(argument: str, segment: RawSegment, sentence: str) -> BadOption:
    return BadOption(sentence, argument=argument, value=segment.text, at=segment.at)


def text_faults(text: str) -> Iterator[str]:
    """The faults in the form of a preset's text, a sentence each. Its options are not parsed here."""
    if not VISIBLE.fullmatch(text) or "?" in text or "#" in text:
        yield "must be options as they are written in a URL, without spaces, ? and #"
        return
    for segment in text.split("/"):
        keys = {part.partition("_")[0] for part in segment.split(",")}
        if not is_options(segment):
            yield f'"{segment}" is not a segment of options; segments are separated by one /, and no source follows'
        elif keys & {"t", "exp"}:
            yield f"{segment}: a preset cannot contain another preset or an expiry"
