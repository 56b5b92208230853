"""The native grammar.

    target   = "/img/" [ signature "/" ] *( segment "/" ) [ "_/" ] source
    segment  = option *( "," option )            option = key "_" value

`options.py` (with `modes.py`, `flags.py` and `effects.py`) is the table of all options. `lexer.py` splits a target into
signature, segments and source. `presets.py` replaces presets by their options. `segment.py` parses the options of one
segment, `validation.py` refuses wrong combinations, and `emit.py` turns the segment into steps of the plan.
`output.py` collects the options of the whole URL, `pixel_ratio.py` applies dpr, and `source_path.py` parses the source.

To add an option: a row in `options.py`, a field of `Segment`, a step in the order of `emit.py`, then
`python -m imgserver.dialects.native.reference docs/urls.md`.
"""

from imgserver.dialects.native.dialect import NativeDialect, needs_escape, preset_faults, quote_source
from imgserver.dialects.native.settings import NativeSettings

__all__ = ["NativeDialect", "NativeSettings", "needs_escape", "preset_faults", "quote_source"]
