"""Generators of hostile input for the tests. `python -m tests.fuzz` searches for input that breaks a parser."""
