"""Presets: names for options. `t_card`, alone in its segment, is replaced by its text and then parsed as if written."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from imgserver.dialects.native.lexer import VISIBLE, Segment, is_options
from imgserver.dialects.native.messages import bad_rule, bad_value
from imgserver.dialects.native.segment import read
from imgserver.dialects.native.settings import NativeSettings
from imgserver.errors import BadOption


@dataclass(frozen=True, slots=True)
class Presets:
    """Texts by name, one or more segments each; `faults_of` has found nothing in them."""

    settings: NativeSettings
    texts: Mapping[str, str] = field(default_factory=dict)

    def expand(self, segments: Iterable[Segment]) -> tuple[Segment, ...]:
        """The segments that are meant. Raises BadOption, also for what is no preset where only these are allowed."""
        expanded = tuple(inner for segment in segments for inner in self._expanded(segment))
        if len(expanded) > self.settings.max_segments:
            raise BadOption(f"presets make more than {self.settings.max_segments} option segments", at=expanded[-1].at)
        return expanded

    def _expanded(self, segment: Segment) -> Iterator[Segment]:
        keys = {part.partition("_")[0] for part in segment.text.split(",")}
        if "t" in keys:
            yield from self._replaced(segment)
        # The end of a link is no wish for a picture.
        elif self.settings.presets_only and keys != {"exp"}:
            sentence = f"this server takes presets only, such as t_{next(iter(self.texts), 'name')}"
            raise BadOption(sentence, argument=segment.text.partition("_")[0], value=segment.text, at=segment.at)
        else:
            yield segment

    def _replaced(self, segment: Segment) -> Iterator[Segment]:
        wish = read(segment, self.settings)
        option = wish.written["t"]
        if len(wish.written) > 1:
            raise bad_rule(option, "a preset stands alone in its segment")
        text = self.texts.get(wish.preset or "")
        if text is None:
            raise bad_value(option, "the name of a preset that this server has", words=tuple(self.texts))
        return (Segment(part, segment.at, preset=True) for part in text.split("/"))


def faults_of(text: str) -> Iterator[str]:
    """What a preset's text must not be, whatever its options mean."""
    if not VISIBLE.fullmatch(text) or "?" in text or "#" in text:
        yield "options as they stand in a URL, without blanks, ? and #"
        return
    for segment in text.split("/"):
        keys = {part.partition("_")[0] for part in segment.split(",")}
        if not is_options(segment):
            yield f'"{segment}" is no segment of options; between them stands one /, and no source behind them'
        elif keys & {"t", "exp"}:
            yield f"{segment}: no other preset and no expiry inside a preset"
