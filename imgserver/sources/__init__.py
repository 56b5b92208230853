"""Where originals come from: folders, web servers and object stores.

A `Source` gives originals as local files, never as open connections: a worker must be able to read the original by
itself, and no worker is held while it is downloaded. An `Origin` is a remote server; the origin cache in front of it
makes it a source.

To add a source, write one class and one row of `SCHEMES`, here or in a package of your own that is imported before the
settings are read:

```python
class ToySource(Source):                # or Origin: a remote server
    async def fingerprint(self, path): ...
    def open(self, path): ...

SCHEMES["toy"] = Scheme(lambda config, context: ToySource(config.url))
SCHEMES["remote-toy"] = Scheme(lambda config, context: context.cached(ToyOrigin(config.url)))
```

A configuration then names it by the URL, which also holds the source's own parameters:

```toml
[sources.toys]
url = "toy://box/red"
```

Raise the errors of `imgserver.errors` that the port names, and run `SourceContract` or `OriginContract` of
`imgserver.testing` in the tests.
"""

from imgserver.sources.origin import Origin, OriginResponse, Validators
from imgserver.sources.schemes import SCHEMES, Scheme, SourceContext
from imgserver.sources.source import Source

__all__ = ["SCHEMES", "Origin", "OriginResponse", "Scheme", "Source", "SourceContext", "Validators"]
