"""Hooks for schemathesis, which loads this file."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """Sends the path of a picture with its slashes: OpenAPI has no way to say that a path parameter contains them."""
    target = (case.path_parameters or {}).get("target")
    if target is not None:
        case.path_parameters["target"] = target.replace("%2F", "/")
