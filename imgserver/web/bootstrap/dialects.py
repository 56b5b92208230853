"""The dialects of a configuration, for the server and for the commands that parse or build URLs."""

from dataclasses import dataclass, replace

from imgserver.dialects import DIALECTS, DialectConfig, MountedDialects
from imgserver.errors import ServerFault
from imgserver.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Dialects:
    public: MountedDialects
    """For image requests."""
    owners: MountedDialects
    """For requests that a key authenticates: they accept unsigned URLs too."""

    @classmethod
    def of(cls, settings: Settings) -> "Dialects":
        """Raises ServerFault."""
        return cls(make_dialects(settings), make_owners_dialects(settings))

    def adopt(self, settings: Settings) -> None:
        """Puts new presets and signing keys into force in all dialects."""
        keyring = settings.signing.keyring()
        self.public.adopt(presets=settings.presets, keyring=keyring)
        self.owners.adopt(presets=settings.presets, keyring=replace(keyring, required=False))


def make_dialects(settings: Settings) -> MountedDialects:
    """Raises ServerFault for two sources of one name, for a source name that a grammar reserves, and for mounts that
    overlap."""
    return _mount(_config(settings))


def make_owners_dialects(settings: Settings) -> MountedDialects:
    """Dialects that accept unsigned URLs too, for requests that a key authenticates. Raises ServerFault."""
    config = _config(settings)
    return _mount(replace(config, keyring=replace(config.keyring, required=False)))


def _config(settings: Settings) -> DialectConfig:
    default = settings.source.name
    if default in settings.sources:
        raise ServerFault(f"source.name: two sources have the name {default!r}")
    return DialectConfig(
        native=settings.native,
        sources=frozenset({default, *settings.sources}),
        default_source=default,
        remote=settings.remote.are_served,
        presets=settings.presets,
        keyring=settings.signing.keyring(),
        client_hints=settings.http.client_hints,
    )


def _mount(config: DialectConfig) -> MountedDialects:
    try:
        return MountedDialects({name: factory(config) for name, factory in DIALECTS.items()})
    except ValueError as error:
        raise ServerFault(str(error)) from error
