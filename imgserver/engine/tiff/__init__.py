"""What libtiff does not check: whether a TIFF is complete, of a kind that can be shown, and what its samples mean."""
