"""Whether a file holds all the data that it declares."""
