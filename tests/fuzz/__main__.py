"""Fuzzing guided by coverage (atheris): `make fuzz SECONDS=600`; ONLY=urls, forms, policies or settings for one target.

Each target runs in its own process for its share of the time and continues with the corpus of earlier runs (.fuzz/). A
target that ends early has found a crash. `python -m tests.fuzz --text .fuzz/urls/crash-... urls` repeats it. Each crash
becomes a test.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

CORPUS = Path(".fuzz")
MAX_INPUT_BYTES = 4096
MAX_MEGABYTES = 1024
SECONDS_PER_INPUT = 5


def urls() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    from imgserver.headers.negotiation import NO_HINTS
    from tests.dialects.native.test_properties import VALID
    from tests.fuzz.targets import check

    return lambda text: check("/img/" + text.decode("latin-1"), NO_HINTS), (one[5:].encode() for one in VALID)


def forms() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    from tests.fuzz.upload_receiver import Receiver, equivalent, split
    from tests.multipart_forms import form, picture

    receiver = Receiver(Path(tempfile.mkdtemp()))

    async def receive_twice(text: bytes) -> None:
        """The first bytes decide where the form, which is the rest, is split."""
        offsets, body = text[:8], text[8:]
        pieces = split(body, (one * 7 for one in offsets))
        assert equivalent(await receiver.receive([body])) == equivalent(await receiver.receive(pieces))

    loop = asyncio.new_event_loop()
    whole = form(picture(b"abc")).replace(b"a-boundary-of-the-tests", b"cut")
    return lambda text: loop.run_until_complete(receive_twice(text)), [b"\x01" * 8 + whole]


def policies() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    from imgserver.settings.policy_file import BadPolicy, load
    from tests.running_server import ROOT

    file = Path(tempfile.mkdtemp()) / "policy"
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


TARGETS = {one.__name__: one for one in (urls, forms, policies, settings)}


def fuzz(name: str, text: Path | None, seconds: int) -> None:
    """Runs one target in this process. Never returns."""
    import atheris

    with atheris.instrument_imports(include=["imgserver", "multipart", "tests.fuzz"]):
        check, seeds = TARGETS[name]()
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(one)
    bounds = [f"-max_len={MAX_INPUT_BYTES}", f"-rss_limit_mb={MAX_MEGABYTES}", f"-timeout={SECONDS_PER_INPUT}"]
    where = [str(text)] if text else [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", str(folder)]
    atheris.Setup([sys.argv[0], *bounds, "-verbosity=0", "-print_final_stats=1", "-timeout_exitcode=1", *where], check)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], *TARGETS], help="the targets")
    parser.add_argument("--seconds", type=int, default=60, help="the time for all targets together")
    parser.add_argument("--text", type=Path, help="check this one input")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone or given.text:
        fuzz(given.only[0], given.text, given.seconds)
    names = given.only or list(TARGETS)
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
