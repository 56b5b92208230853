"""What strangers' text is made of for tests, and `python -m tests.fuzz`, which looks for texts nobody thought of."""
