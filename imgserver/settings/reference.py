"""The reference of all settings, generated from their fields: the commented sample file and the page docs/settings.md.

A test compares both with the files in the repository.
"""

import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from imgserver.settings.describe import allowed, format_value
from imgserver.settings.names import bare, meaning_of, members, named, section_meaning, values, variable
from imgserver.settings.schema import Settings

SAMPLE_COLUMNS = 118

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

# The example of a table with names of the owner's choice, which has no default: a name and its value.
EXAMPLES = {"presets.*": ("card", "c_fill,w_400,h_300,g_auto/f_auto")}


def sample() -> str:
    """A TOML file with every setting at its default, commented out.

    Tables with names of the owner's choice have no default: each is an example, commented out as a whole.
    """
    lines = [
        "# All settings of imgserver with their defaults; remove the # to change one.",
        "# The variable IMGSERVER_<SECTION>_<NAME> sets the same and has precedence over this file.",
        '# Settings whose name ends in bytes take a number or text such as "64MiB".',
    ]
    for section, rows in _sections():
        comment = "# " if section in named() else ""
        lines += ["", *_comment(section_meaning(section)), f"{comment}{_heading(section)}"]
        for name, default in rows:
            lines += [comment + line for line in _comment(f"{_meaning(name)} ({allowed(name)})")]
            lines.append(f"{comment}#{_own_name(name)} = {_toml(name, default)}")
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """The reference page, with a table per section."""
    lines = [PROSE]
    for section, rows in _sections():
        lines += [f"## {_heading(section)}", "", section_meaning(section), ""]
        lines += ["| setting | default | values | meaning |", "|---|---|---|---|"]
        lines += [_table_row(name, default) for name, default in rows]
        lines.append("")
    return "\n".join(lines)


def _table_row(name: str, default: object) -> str:
    names, value = f"`{_own_name(name)}`<br>`{variable(name)}`", f"`{_toml(name, default)}`"
    return f"| {names} | {value} | {allowed(name)} | {_meaning(name)} |"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, SAMPLE_COLUMNS, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)


def _heading(section: str) -> str:
    has_tables = section in named() and "" not in members(named()[section])
    return f"[{section}.NAME]" if has_tables else f"[{section}]"


def _sections() -> Iterator[tuple[str, Iterator[tuple[str, object]]]]:
    """The sections in order of definition; for each setting its dotted name and its default."""
    return groupby(_rows(), key=lambda row: row[0].partition(".")[0])


def _rows() -> Iterator[tuple[str, object]]:
    defaults = values(Settings())
    for section in Settings.__dataclass_fields__:
        if section in named():
            yield from _named_rows(section, bare(named()[section]))
        else:
            yield from (row for row in defaults.items() if row[0].startswith(f"{section}."))


def _named_rows(section: str, kind: Any) -> Iterator[tuple[str, object]]:
    if "" in members(kind):
        yield f"{section}.*", EXAMPLES[f"{section}.*"][1] if f"{section}.*" in EXAMPLES else kind()
    else:
        yield from ((f"{section}.*.{name}", getattr(kind(), name)) for name in members(kind))


def _meaning(name: str) -> str:
    return meaning_of(name) or MEANINGS[name]


def _own_name(name: str) -> str:
    """The name of a setting within its table."""
    return EXAMPLES[name][0] if name in EXAMPLES else name.rpartition(".")[2].replace("*", "NAME")


def _toml(name: str, value: object) -> str:
    if isinstance(value, bool):
        return format_value(name, value)
    if isinstance(value, tuple):
        return str(list(value))
    text = format_value(name, value)
    return text if text.replace("_", "").replace(".", "", 1).isdigit() else f'"{text}"'


PROSE = """\
# Settings

This page is generated by `imgserver config init --markdown`; a test keeps it up to date.

A value is taken from the first of these that has one:

1. an option of the command line (`--host`, `--port`, `--workers`, the folder),
2. the variable `IMGSERVER_<SECTION>_<NAME>`,
3. the TOML file given by `--config`, or else by the variable `IMGSERVER_CONFIG`,
4. for `server.port` the variable `PORT`, and for `redis.url` the variable `REDIS_URL`, which platforms export,
5. the default.

`imgserver config` prints every value with its origin, `imgserver config check FILE` checks a file, and
`imgserver config init > imgserver.toml` writes a file with all settings commented out. An unknown name, a name that was
changed and a value that is not allowed stop the server at its start. One message names all of them:

```
Error: imgserver.toml: no setting server.prot; nearest: server.port
imgserver.toml: queue.room is now queue.max_waiting
IMGSERVER_LIMITS_FRAMES: "many" is not allowed; a whole number 1-10000
```

Settings whose name ends in `bytes` take a number or text such as `"64MiB"` (powers of 1024) or `"64MB"` (powers of
1000).
"""
