"""`python -m imgserver` and the console script."""

import signal

# While the command line is loaded, Ctrl-C ends the process by the signal; Python's handler would print a traceback.
_HANDLER = signal.getsignal(signal.SIGINT)
if _HANDLER is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from imgserver.cli import main  # noqa: E402

if _HANDLER is signal.default_int_handler:
    signal.signal(signal.SIGINT, _HANDLER)

if __name__ == "__main__":
    main()
