"""Judges from outside, each against the real server: caches of other makers in front of it, and a critic of answers."""
