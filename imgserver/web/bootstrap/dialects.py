"""The native dialect of a configuration, for the server and for the commands that parse or build URLs."""

from dataclasses import dataclass, replace

from imgserver.dialects.native import NativeDialect
from imgserver.errors import ServerFault
from imgserver.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Dialects:
    public: NativeDialect
    """For image requests."""
    owners: NativeDialect
    """For requests that a key authenticates: it accepts unsigned URLs too."""

    @classmethod
    def of(cls, settings: Settings) -> "Dialects":
        """Raises ServerFault."""
        return cls(make_dialect(settings), make_owners_dialect(settings))

    def adopt(self, settings: Settings) -> None:
        """Puts new presets and signing keys into force in both dialects."""
        keyring = settings.signing.keyring()
        self.public.adopt(presets=settings.presets, keyring=keyring)
        self.owners.adopt(presets=settings.presets, keyring=replace(keyring, required=False))


def make_dialect(settings: Settings) -> NativeDialect:
    """Raises ServerFault for two sources of one name, and for a name that the grammar reserves."""
    default = settings.source.name
    if default in settings.sources:
        raise ServerFault(f"source.name: two sources have the name {default!r}")
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
    """A dialect that accepts unsigned URLs too, for requests that a key authenticates. Raises ServerFault."""
    if settings.signing.mode != "required":
        return make_dialect(settings)
    return make_dialect(replace(settings, signing=replace(settings.signing, mode="remote-only")))
