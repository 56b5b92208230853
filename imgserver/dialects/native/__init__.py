"""The native grammar.

    target   = "/img/" [ signature "/" ] *( segment "/" ) [ "_/" ] source
    segment  = option *( "," option )            option = key "_" value

`options.py` (with `modes.py`, `effects.py` and `flags.py`) is the table everything comes from. A target is cut by
`target.py` once its signature has been checked, presets are replaced by `presets.py`, each segment is read by
`wish.py`, refused by `rules.py` or turned into steps by `emission.py`; `output.py` gathers the keys that act on the
whole URL, `addresses.py` reads the source. To add an option: a row, a field of `Wish`, a place in the emission table,
and `python -m imgserver.dialects.native.reference docs/urls.md`.
"""

from imgserver.dialects.native.dialect import NativeDialect, needs_escape, preset_faults, quote_source
from imgserver.dialects.native.settings import NativeSettings

__all__ = ["NativeDialect", "NativeSettings", "needs_escape", "preset_faults", "quote_source"]
