"""HTTP semantics as pure functions of header texts: content negotiation, validators and lifetimes, byte ranges.

Not in it: the framework, the composition of responses (web/images), and whatever needs a clock or I/O.
"""
