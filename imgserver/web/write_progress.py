"""How much of its responses a client has not received yet."""

import asyncio
import fcntl
import sys
import termios

# A client must receive this much of its response in `write_timeout_seconds`, or all that is left of it.
MIN_RECEIVED_BYTES = 64 << 10


def unreceived_bytes(transport: asyncio.Transport) -> int:
    """Bytes in the buffer of the transport and in the send queue of the kernel, which the client has not acknowledged.

    The send queue holds megabytes, and the kernel takes more from the transport only when a third of it is free. So the
    buffer of the transport alone shows no progress of an even, slow reader for a minute.
    """
    return transport.get_write_buffer_size() + _send_queue_bytes(transport)


def _send_queue_bytes(transport: asyncio.Transport) -> int:
    """SIOCOUTQ, which has the number of TIOCOUTQ (tcp(7)); 0 where the system does not report it."""
    connection, answer = transport.get_extra_info("socket"), bytearray(4)
    try:
        fcntl.ioctl(connection.fileno() if connection else -1, termios.TIOCOUTQ, answer)
    except (OSError, ValueError):
        return 0
    return int.from_bytes(answer, sys.byteorder)
