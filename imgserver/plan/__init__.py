"""Pure values: what a URL asks for (`plan`), every size that follows from it (`geometry`), and the cache key.

Nothing here does I/O or imports a library of images.
"""
