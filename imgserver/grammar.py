"""The native dialect of a configuration, for the server and for commands that read or write URLs."""

from dataclasses import replace

from imgserver.dialects.native import NativeDialect
from imgserver.errors import ServerFault
from imgserver.settings import Settings


def make_dialect(settings: Settings) -> NativeDialect:
    """ServerFault: a source has a name that the grammar keeps for itself."""
    default = settings.source.name
    if default in settings.sources:
        raise ServerFault(f"source.name: two sources are called {default!r}")
    try:
        return NativeDialect(
            settings.native,
            sources={default, *settings.sources},
            default_source=default,
            remote=settings.remote.are_served,
            presets=settings.presets,
            keyring=settings.signing.keyring(),
            client_hints=settings.http.client_hints,
        )
    except ValueError as error:
        raise ServerFault(str(error)) from error


def make_owners_dialect(settings: Settings) -> NativeDialect:
    """The same for who has proved to be the owner: what is not signed is read as well."""
    if settings.signing.mode != "required":
        return make_dialect(settings)
    return make_dialect(replace(settings, signing=replace(settings.signing, mode="remote-only")))
