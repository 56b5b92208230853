"""Local copies of remote originals: one download for all renditions of an original, within a bound on disk."""
