"""Whether a file holds all the data that it declares, for the two formats whose loaders do not check it."""
