"""What a worker process loads."""

import re
import subprocess
import sys

ALLOWED = re.compile(r"imgserver(\.(errors|engine(\..+)?|plan(\..+)?|runtime(\.resources)?))?")


def test_a_worker_loads_the_engine_and_the_values_and_no_other_part_of_the_package() -> None:
    code = (
        "from imgserver.engine import sandbox; sandbox.open_engine();"
        "import imgserver.engine.optimize, sys; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = [name for name in loaded if name.partition(".")[0] == "imgserver"]

    assert "imgserver.engine.vips" in ours
    assert [name for name in ours if not ALLOWED.fullmatch(name)] == []
    assert {"aiohttp", "redis", "click", "rich"} & set(loaded) == set()
