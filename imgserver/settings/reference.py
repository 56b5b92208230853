"""What each setting is for, in one line; the sample file and the reference page are made from it.

A test compares both with the files in the repository, so a setting without its line here fails the build.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from imgserver.settings.describe import allowed, spell_size
from imgserver.settings.names import meaning_of, members, named, section_meaning, values, variable
from imgserver.settings.schema import Settings

_PLACE = {
    "root": "the folder with the originals",
    "url": "instead of a folder: the https:// address its originals are below, or s3://bucket/prefix, gs://, az://",
    "writable": "whether uploads may be stored there",
    "headers": 'lines such as "Authorization: Bearer ..." that are sent with every request below url',
    "redirects_to": "addresses beside url that its redirects may lead to",
    "networks": "networks that may be dialled though they are not public, such as 10.1.0.0/16",
    "endpoint": "the object store's own address, where it is not Amazon's",
    "region": "the object store's region",
    "variables": "what stands before the names of the variables with its keys, such as SHOP_",
}

MEANINGS = {
    **{f"source.{name}": meaning for name, meaning in _PLACE.items()},
    **{f"sources.*.{name}": meaning for name, meaning in _PLACE.items()},
    "remote.enabled": "whether signed URLs may name any address; those on the list may be named without this",
    "remote.allowed": "addresses that every URL may name, such as https://cdn.example.com/pictures/, https://*.example.com",
    "remote.networks": "networks that may be dialled though they are not public, such as 10.1.0.0/16",
    "fetch.connect_seconds": "for the name, the connection and TLS",
    "fetch.idle_seconds": "how long a source may send nothing",
    "fetch.total_seconds": "for one original, with all attempts and redirects",
    "fetch.redirects": "how many are followed; each is judged like the first address",
    "fetch.attempts": "how often an original is asked for while its source fails",
    "spool.path": "the folder for originals from elsewhere; empty is one of this source in the user's cache",
    "spool.limit_bytes": "size of the originals kept of each source",
    "spool.item_bytes": "largest original that is downloaded",
    "spool.fetches": "originals downloaded at the same time from each source",
    "spool.waiting": "requests that may wait for each source; the next ones are refused",
    "spool.fetch_seconds": "for one original, the wait for its turn included",
    "spool.least_seconds": "how long an original is fresh at least",
    "spool.most_seconds": "how long an original is fresh at most",
    "spool.silent_seconds": "how long an original is fresh when its source says nothing",
    "spool.renew_seconds": "how long it is used after that, while it is asked for behind",
    "spool.error_seconds": "how long it is used after that, while its source fails",
    "spool.pause_seconds": "how long a source that has failed is not asked for that original",
    "spool.absent_seconds": "how long an absent original is not asked for again",
}

# What the sample shows where the owner chooses the name and there is no default: by name and value.
EXAMPLES = {"presets.*": ("card", "c_fill,w_400,h_300,g_auto/f_auto")}


def sample() -> str:
    """A TOML file with every setting, commented out at its default."""
    lines = [
        "# imgserver settings: every one with its default; remove the # to change it.",
        "# Each can also be given as a variable IMGSERVER_<SECTION>_<NAME>, which wins over this file.",
        '# Names that end in bytes take plain bytes or text such as "64MiB".',
    ]
    for section, rows in _sections():
        lines += ["", f"# {section_meaning(section)}", f"{'# ' * (section in named())}{_heading(section)}"]
        for name, default in rows:
            told = [f"# {_meaning(name)} ({allowed(name)})", f"#{_own(name)} = {_toml(name, default)}"]
            lines += [f"# {line}" for line in told] if section in named() else told
    return "\n".join(lines) + "\n"


def _heading(section: str) -> str:
    """In the sample, a table of one's own names is an example, whole in comments: it has no default."""
    has_tables = section in named() and "" not in members(named()[section])
    return f"[{section}.NAME]" if has_tables else f"[{section}]"


def markdown() -> str:
    """The reference page, a table per section."""
    lines = [PROSE]
    for section, rows in _sections():
        lines += [f"## {_heading(section)}", "", section_meaning(section), ""]
        lines += ["| setting | default | takes | what it is |", "|---|---|---|---|"]
        lines += [
            f"| `{_own(name)}`<br>`{variable(name)}` | `{_toml(name, default)}` | {allowed(name)} | {_meaning(name)} |"
            for name, default in rows
        ]
        lines.append("")
    return "\n".join(lines)


def spell(name: str, value: object) -> str:
    """A value for people, as they would write it: sizes with a unit; a path that is not set is empty."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if value == Path() and not name.endswith(".root"):
        return ""
    return spell_size(value) if name.endswith("bytes") and isinstance(value, int) else str(value)


def _sections() -> Iterator[tuple[str, Iterator[tuple[str, object]]]]:
    """In the order of definition, each setting by its dotted name with its default."""
    return groupby(_rows(), key=lambda row: row[0].partition(".")[0])


def _rows() -> Iterator[tuple[str, object]]:
    defaults = values(Settings())
    for section in Settings.__dataclass_fields__:
        if section in named():
            yield from _named_rows(section, named()[section])
        else:
            yield from (row for row in defaults.items() if row[0].startswith(f"{section}."))


def _named_rows(section: str, kind: Any) -> Iterator[tuple[str, object]]:
    if "" in members(kind):
        yield f"{section}.*", EXAMPLES[f"{section}.*"][1] if f"{section}.*" in EXAMPLES else kind()
    else:
        yield from ((f"{section}.*.{name}", getattr(kind(), name)) for name in members(kind))


def _meaning(name: str) -> str:
    return meaning_of(name) or MEANINGS[name]


def _own(name: str) -> str:
    """A setting's name within its table."""
    return EXAMPLES[name][0] if name in EXAMPLES else name.rpartition(".")[2].replace("*", "NAME")


def _toml(name: str, value: object) -> str:
    if isinstance(value, bool):
        return spell(name, value)
    if isinstance(value, tuple):
        return str(list(value))
    text = spell(name, value)
    return text if text.replace("_", "").replace(".", "", 1).isdigit() else f'"{text}"'


PROSE = """\
# Settings

Written by `imgserver config init --markdown`; a test keeps this page true.

A value comes from, the strongest first:

1. an option of the command line (`--host`, `--port`, `--workers`, the folder),
2. a variable `IMGSERVER_<SECTION>_<NAME>`,
3. the TOML file given by `--config`, else by `IMGSERVER_CONFIG`, else none,
4. for the port alone, the variable `PORT` that platforms export,
5. the default.

`imgserver config` prints every value with its origin, `imgserver config check FILE` checks a file, and
`imgserver config init > imgserver.toml` writes one with everything commented out. Names nobody knows and values that
are not allowed stop the server at its start, all faults in one message:

```
Error: imgserver.toml: no setting server.prot; nearest: server.port
IMGSERVER_LIMITS_FRAMES: "many" is not allowed; a whole number 1-10000
```

Names that end in `bytes` take plain bytes or text such as `"64MiB"` (powers of 1024) or `"64MB"` (powers of 1000).
"""
