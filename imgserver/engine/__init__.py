"""The engine: one job in, one result out, in a worker process.

`job.py` (the values that pass between server and worker), `sandbox.py` (what a worker does to itself), `encoders/`
(the registry of output formats) and `frame_count.py` (with the modules that it reads containers with) are safe to
import anywhere. Only workers, and commands that render by themselves, load the other modules, because `vips.py`, the
only importer of pyvips, loads libvips: a process that has used libvips must never fork, and the server process stays
free of it.
"""

from imgserver.engine.encoders import ENCODERS, Encoder

__all__ = ["ENCODERS", "Encoder"]
