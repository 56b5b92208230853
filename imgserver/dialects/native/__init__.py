"""The native grammar.

    target   = "/img/" [ signature "/" ] *( segment "/" ) [ "_/" ] source
    segment  = option *( "," option )            option = key "_" value

`options.py` (with `modes.py` and `effects.py`) is the table of all options. `lexer.py` splits a target after its
signature has been checked. `presets.py` replaces presets by their options. `segment.py` reads the options of one
segment, `validation.py` refuses wrong combinations, and `emit.py` turns the segment into steps of the plan.
`source_path.py` reads the source.

To add an option: a row in `options.py`, a field of `Segment`, a place in the table of `emit.py`, then
`python -m imgserver.dialects.native.reference docs/urls.md`.
"""

from imgserver.dialects.native.dialect import NativeDialect, needs_escape, preset_faults, quote_source
from imgserver.dialects.native.settings import NativeSettings

__all__ = ["NativeDialect", "NativeSettings", "needs_escape", "preset_faults", "quote_source"]
