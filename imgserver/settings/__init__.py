"""The settings of all components: their schema, the loader, renamed settings, and the generated reference.

The fields of a section stand beside its component, with their ranges and meanings.
"""
