"""The engine: one job in, one result out, in a worker process.

`job.py` holds the values that cross the process border and is safe to import anywhere. Everything else here is loaded
by workers only, because `vips.py`, the sole importer of pyvips, loads libvips: a process that has used libvips must
never fork, and the server process stays free of it.
"""
