"""The engine: one job in, one result out, in a worker process.

`job.py` (the values that cross the process border) and `child.py` (what a worker does to itself) are safe to import
anywhere. Everything else here is loaded by workers, and by commands that render for themselves, because `vips.py`, the
sole importer of pyvips, loads libvips: a process that has used libvips must never fork, and the server process stays
free of it.
"""
