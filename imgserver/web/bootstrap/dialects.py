"""The native dialect of a configuration, for the server and for commands that read or write URLs."""

from dataclasses import dataclass, replace

from imgserver.dialects.native import NativeDialect
from imgserver.errors import ServerFault
from imgserver.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Dialects:
    """What one server reads: `public` from everybody, `owners` from who has proved to be the owner."""

    public: NativeDialect
    owners: NativeDialect

    @classmethod
    def of(cls, settings: Settings) -> "Dialects":
        """Raises what `make_dialect` raises."""
        return cls(make_dialect(settings), make_owners_dialect(settings))

    def adopt(self, settings: Settings) -> None:
        """New presets and keys, for whoever holds one of the two."""
        keyring = settings.signing.keyring()
        self.public.adopt(presets=settings.presets, keyring=keyring)
        self.owners.adopt(presets=settings.presets, keyring=replace(keyring, required=False))


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
