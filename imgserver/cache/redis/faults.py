"""Which kind of fault an error of Redis or of its client is: one word, used as a metric label."""

import hiredis
from redis import exceptions

# By the beginning of Redis' error message, else by the class of the exception.
_BY_MESSAGE = {
    "OOM": "oom",
    "command not allowed when used memory": "oom",
    "MISCONF": "misconf",
    "READONLY": "readonly",
    "You can't write against a read only": "readonly",
    "LOADING": "loading",
    "NOAUTH": "auth",
    "WRONGPASS": "auth",
    "max number of clients": "clients",
    "ERR max number of clients": "clients",
    "MASTERDOWN": "masterdown",
    "WRONGTYPE": "wrongtype",
}
_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.OutOfMemoryError, "oom"),
    (exceptions.ReadOnlyError, "readonly"),
    (exceptions.BusyLoadingError, "loading"),
    (exceptions.AuthenticationError, "auth"),
    (exceptions.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (exceptions.ConnectionError, "connection"),
    (OSError, "connection"),
    (exceptions.ResponseError, "response"),
    (hiredis.ReplyError, "response"),
)
# While one of these lasts, writes fail but reads succeed.
WRITE_FAULTS = frozenset({"oom", "misconf", "readonly"})
# While one of these lasts, everything fails.
SERVER_FAULTS = frozenset({"loading", "auth", "clients", "masterdown"})


def kind_of(error: Exception) -> str:
    message = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return "certificate"
    for beginning, kind in _BY_MESSAGE.items():
        if message.startswith(beginning):
            return kind
    for exception, kind in _BY_CLASS:
        if isinstance(error, exception):
            return kind
    return "other"
