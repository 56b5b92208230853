"""Free TCP ports of the loopback interface, for servers that tests start.

The ports lie below the range from which Linux takes the local ports of outgoing connections (32768 and above, ip(7)),
and each process of pytest-xdist has a separate range. So nothing takes a port between the check and the server's start.
"""

import os
import re
import socket
from itertools import count

FIRST_PORT = 12_000
PORTS_PER_PROCESS = 4_000
MAX_PROCESSES = 5

_process = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % MAX_PROCESSES
_numbers = count(os.getpid())


def free_port() -> int:
    """A port that nobody listens on. A port is not given out again before the whole range was."""
    while True:
        port = FIRST_PORT + _process * PORTS_PER_PROCESS + next(_numbers) % PORTS_PER_PROCESS
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
