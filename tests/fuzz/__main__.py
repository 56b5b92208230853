"""Fuzzing guided by coverage (atheris): `make fuzz SECONDS=600`, or ONLY=urls, forms, rules, settings for one of them.

Each runs in a process of its own for its share of the time, with what it has learnt before (.fuzz/). One that ends
early has found something: `python -m tests.fuzz --text .fuzz/urls/crash-... urls` tries it again. What was found
becomes a test.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

LEARNT = Path(".fuzz")
LONGEST_TEXT = 4096
MEGABYTES = 1024
SECONDS_FOR_ONE_TEXT = 5


def urls() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    from imgserver.headers.negotiation import NO_HINTS
    from tests.dialects.native.test_properties import VALID
    from tests.fuzz.targets import check

    return lambda text: check("/img/" + text.decode("latin-1"), NO_HINTS), (one[5:].encode() for one in VALID)


def forms() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    from tests.fuzz.intake import Place, cut, meaning
    from tests.multipart_forms import form, picture

    place = Place(Path(tempfile.mkdtemp()))

    async def same(text: bytes) -> None:
        """The first bytes say where the rest is cut."""
        cuts, body = text[:8], text[8:]
        pieces = cut(body, (one * 7 for one in cuts))
        assert meaning(await place.taken([body])) == meaning(await place.taken(pieces))

    loop = asyncio.new_event_loop()
    whole = form(picture(b"abc")).replace(b"a-boundary-of-the-tests", b"cut")
    return lambda text: loop.run_until_complete(same(text)), [b"\x01" * 8 + whole]


def rules() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    from imgserver.settings.policy_file import BadPolicy, load
    from tests.running_server import ROOT

    file = Path(tempfile.mkdtemp()) / "rules"
    return lambda text: _loaded(file, text, load, BadPolicy), [(ROOT / "config" / "security.yaml").read_bytes()]


def settings() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    from imgserver.settings.loader import BadSettings, load

    file = Path(tempfile.mkdtemp()) / "settings"
    texts = [b'[server]\nport = 8080\n[presets]\na = "w_1"\n[sources.shop]\nkind = "http"\nurl = "http://a/"\n']
    return lambda text: _loaded(file, text, lambda path: load(path, {}, {}), BadSettings), texts


def _loaded(file: Path, text: bytes, load: Callable[[Path], object], bad: type[Exception]) -> None:
    file.write_bytes(text)
    try:
        load(file)
    except bad:
        return


SUBJECTS = {one.__name__: one for one in (urls, forms, rules, settings)}


def look(name: str, text: Path | None, seconds: int) -> None:
    """Never returns."""
    import atheris

    with atheris.instrument_imports(include=["imgserver", "multipart", "tests.fuzz"]):
        check, begin_with = SUBJECTS[name]()
    folder = LEARNT / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(begin_with):
        (folder / f"seed-{number}").write_bytes(one)
    bounds = [f"-max_len={LONGEST_TEXT}", f"-rss_limit_mb={MEGABYTES}", f"-timeout={SECONDS_FOR_ONE_TEXT}"]
    where = [str(text)] if text else [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", str(folder)]
    atheris.Setup([sys.argv[0], *bounds, "-verbosity=0", "-print_final_stats=1", "-timeout_exitcode=1", *where], check)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], *SUBJECTS], help="what to fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for all together")
    parser.add_argument("--text", type=Path, help="try this one alone")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone or given.text:
        look(given.only[0], given.text, given.seconds)
    names = given.only or list(SUBJECTS)
    share = str(max(1, given.seconds // len(names)))
    found = []
    for name in names:
        sys.stdout.write(f"== {name}, {share} s\n")
        sys.stdout.flush()
        ended = subprocess.run([sys.executable, "-m", "tests.fuzz", name, "--seconds", share, "--alone"], check=False)
        found += [name] * (ended.returncode != 0)
    sys.stdout.write(f"found something in {', '.join(found)}\n" if found else "found nothing\n")
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
