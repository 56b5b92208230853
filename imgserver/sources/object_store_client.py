"""The client of an object store: obstore, from the extra [s3]. It is imported when the first client is created."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from imgserver.errors import ServerFault
from imgserver.sources.config import FetchSettings, SourceConfig

if TYPE_CHECKING:
    from obstore.store import ObjectStore

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

_URL = re.compile(r"(?:s3|gs|az)://[\w.-]+(?:/[^?#]*)?")
_ENDPOINT = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?")
# The beginning of the environment variables of a provider.
_PROVIDERS = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
# The variables that decide which store a URL means, without the beginning.
_PLAIN = re.compile("(?:aws|google|azure)_(?:storage_)?|storage_|default_|_name|_url(?:_s3)?")
_LOCATION = re.compile(
    "(?:(?:aws|google|azure)_)?(?:storage_)?(?:endpoint(?:_url(?:_s3)?)?|base_url|account_name|(?:default_)?region)"
)
_VARIANT = re.compile(r"source: (\w{1,64})")


@dataclass(frozen=True, slots=True)
class ObjectStoreSettings:
    """`url` is s3://bucket/prefix, gs://bucket/prefix or az://container/prefix. `endpoint` and `region` are for stores
    other than the provider's own.

    Credentials come from the environment, with obstore's names (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY, ...). With `env_prefix`, only
    variables that begin with it are read, without the prefix: "SHOP_" reads AWS_ACCESS_KEY_ID from
    SHOP_AWS_ACCESS_KEY_ID.
    """

    url: str = ""
    endpoint: str = ""
    region: str = ""
    env_prefix: str = ""
    fetch: FetchSettings = field(default_factory=FetchSettings)


def check(config: SourceConfig) -> None:
    """The settings check of the schemes s3, gs and az. Raises ValueError."""
    refuse_malformed(config.url, config.endpoint)


def identity(config: SourceConfig, environ: Mapping[str, str] = os.environ) -> str:
    """The identity of the schemes s3, gs and az: the URL, and what decides which store it means, from the settings and
    from the environment."""
    prefix = config.env_prefix or f"{_PROVIDERS[config.scheme]}_"
    names = ((name, name.removeprefix(prefix).lower()) for name in environ if name.startswith(prefix))
    found = {_PLAIN.sub("", name): environ[variable] for variable, name in names if _LOCATION.fullmatch(name)}
    found |= {"endpoint": config.endpoint} if config.endpoint else {}
    found |= {"region": config.region} if config.region else {}
    return "\n".join([config.url.rstrip("/"), *(f"{name}={value}" for name, value in sorted(found.items()))])


def refuse_malformed(url: str, endpoint: str) -> None:
    """Raises ValueError, which quotes neither: any part may be a secret."""
    if not _URL.fullmatch(url):
        raise ValueError("url: the URL of an object store is s3://bucket/prefix, gs://... or az://..., without a query")
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        raise ValueError("endpoint: a URL such as https://fra1.digitaloceanspaces.com, without user or query")


def make_client(settings: ObjectStoreSettings, environ: Mapping[str, str] = os.environ) -> "ObjectStore":
    """Raises ServerFault if obstore is not installed, or cannot use the settings."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise ServerFault(f"{settings.url} needs obstore: pip install 'imgserver[s3]'") from error
    try:
        refuse_malformed(settings.url, settings.endpoint)
    except ValueError as error:
        raise ServerFault(str(error)) from error
    try:
        return from_url(settings.url, config=_config(settings, environ), **_options(settings))
    except (BaseError, ValueError) as error:
        found = _VARIANT.search(str(error))
        raise ServerFault(f"{settings.url} cannot be used: {found[1] if found else type(error).__name__}") from None


def _config(settings: ObjectStoreSettings, environ: Mapping[str, str]) -> Any:
    """Typed Any, because each kind of store has its own type of configuration. obstore refuses unknown names."""
    prefix = settings.env_prefix
    config = {name.removeprefix(prefix).lower(): value for name, value in environ.items() if name.startswith(prefix)}
    # Without a prefix obstore reads the environment itself.
    config = config if prefix else {}
    if prefix and not config:
        raise ServerFault(f"{settings.url}: no environment variable begins with {prefix}")
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    if settings.region:
        config["region"] = settings.region
    return config


def _options(settings: ObjectStoreSettings) -> dict[str, Any]:
    """Time-outs and retries."""
    fetch = settings.fetch
    return {
        "client_options": {
            "allow_http": settings.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=fetch.connect_timeout_seconds),
            "read_timeout": timedelta(seconds=fetch.idle_timeout_seconds),
            "timeout": timedelta(seconds=fetch.total_timeout_seconds),
        },
        "retry_config": {
            "max_retries": fetch.max_attempts - 1,
            "retry_timeout": timedelta(seconds=fetch.total_timeout_seconds),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_PAUSE_SECONDS),
                "max_backoff": timedelta(seconds=LONGEST_PAUSE_SECONDS),
                "base": 2,
            },
        },
    }
