"""The limit for misses: one process that renders the same plans with libvips, and nothing else.

Run as `python bare_libvips.py JOBS_JSON`: a list of [path, width, quality]. Prints CPU and wall seconds of the jobs
alone, without the start. `thumbnail` is the function of libvips for this purpose: shrink-on-load with headroom,
orientation, lanczos3. Metadata is stripped; the save options are those of the server. Nothing is converted to sRGB: the
samples have no profile, and `export_profile` would double the cost of the limit.
"""

import json
import os
import sys
import time

os.environ["VIPS_CONCURRENCY"] = "1"

import pyvips

JPEG = {"keep": "none", "quant_table": 3, "optimize_coding": True, "interlace": True}


def main(jobs: list[tuple[str, int, int]]) -> None:
    pyvips.cache_set_max(0)
    render(*jobs[0])  # the first call loads codecs and profiles
    print("ready", flush=True)
    sys.stdin.readline()
    wall, cpu = time.perf_counter(), time.process_time()
    for job in jobs:
        render(*job)
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))


def render(path: str, width: int, quality: int) -> bytes:
    image = pyvips.Image.thumbnail(path, width, height=10_000_000, size="down", fail_on="truncated")
    return bytes(image.jpegsave_buffer(Q=quality, **JPEG))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
