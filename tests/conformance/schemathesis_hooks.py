"""What schemathesis has to know of this server; it loads this file itself."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """The path of a picture is sent with its slashes, which no description can tell of a parameter in a path."""
    target = (case.path_parameters or {}).get("target")
    if target is not None:
        case.path_parameters["target"] = target.replace("%2F", "/")
