"""The policy file is validated strictly, and every error names its line."""

import re
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from imgserver.security.policy import ClientLists, FormatLists, PixelLimits, Policy, Proxies, Rate, Rates, UploadLimits
from imgserver.settings.policy_file import BadPolicy, load, values

SHIPPED = Path(__file__).parents[2] / "config" / "security.yaml"


def read(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "security.yaml"
    file.write_text(text)
    return replace(load(file), digest="")


def faults_of(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(BadPolicy) as caught:
        read(tmp_path, text)
    assert caught.value.detail.splitlines() == list(caught.value.facts["faults"])
    return [fault.replace(f"{tmp_path}/security.yaml", "file") for fault in caught.value.facts["faults"]]


def test_the_shipped_file_is_the_default_policy() -> None:
    assert replace(load(SHIPPED), digest="") == Policy()


def test_the_shipped_file_explains_every_entry() -> None:
    lines = SHIPPED.read_text("utf-8").splitlines()
    names, path = {}, []
    for number, line in enumerate(lines):
        if found := re.match(r"^( *)(\w+):", line):
            path[len(found[1]) // 2 :] = [found[2]]
            names[".".join(path)] = number

    assert set(values(Policy())) <= set(names)
    # The rates of the three classes are explained once.
    explained = {n: i for n, i in names.items() if not n.startswith(("rates.uploads.", "rates.admin."))}
    assert [name for name, number in explained.items() if not lines[number - 1].lstrip().startswith("#")] == []


def test_every_entry_is_read(tmp_path: Path) -> None:
    policy = read(
        tmp_path,
        """
        clients: {deny: [192.0.2.0/24, "::1"], allow: [2001:db8::/32]}
        proxies: {networks: [10.0.0.0/8], hops: 2, field: Forwarded}
        rates:
          pictures: {per_second: 2.5, burst: 10}
          uploads: {per_second: 1, burst: 1}
          admin: {per_second: 3, burst: 4}
        uploads: {body_bytes: 10MiB, parts: 3}
        pixels: {source: 10_000_000, output: 1000000}
        formats: {read: [jpg, png], write: [gif, jpg, png]}
        """.replace("10_000_000", "10000000"),
    )

    assert policy == Policy(
        ClientLists((ip_network("192.0.2.0/24"), ip_network("::1/128")), (ip_network("2001:db8::/32"),)),
        Proxies((ip_network("10.0.0.0/8"),), 2, "Forwarded"),
        Rates(Rate(2.5, 10), Rate(1, 1), Rate(3, 4)),
        UploadLimits(10 << 20, 3),
        PixelLimits(10_000_000, 1_000_000),
        FormatLists(("jpg", "png"), ("gif", "jpg", "png")),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "rates:\n", "rates:\n  pictures:\n    burst:\n"])
def test_absent_and_empty_entries_keep_their_defaults(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == Policy()


def test_scalars_have_no_implicit_types(tmp_path: Path) -> None:
    lists = read(tmp_path, "clients:\n  deny:\n  - 1:2:3:4:5:6:7:8\n  - ::1\n").clients

    assert lists.deny == (ip_network("1:2:3:4:5:6:7:8"), ip_network("::1"))
    assert faults_of(tmp_path, "rates: {pictures: {burst: yes}}")[0].startswith('file:1: rates.pictures.burst: "yes"')


def test_the_digest_depends_on_the_content_only(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("proxies: {hops: 1}")
    two.write_text("proxies: {hops: 1}")
    digest = load(one).digest
    assert digest == load(two).digest
    two.write_text("proxies: {hops: 2}")
    assert digest != load(two).digest


def test_one_message_has_all_errors_with_their_lines(tmp_path: Path) -> None:
    faults = faults_of(
        tmp_path,
        "clints: {}\n"
        "clients: {deny: [10.0.0.1/8, 192.0.2.1, x]}\n"
        "rates: {pictures: {per_second: -1, brst: 2}, uploads: 3}\n"
        "proxies: {hops: [1], field: XFF}\n"
        "formats: {write: [jpg, bmp]}\n"
        "uploads: {body_bytes: 10 MB or so, parts: 20, parts: 30}\n",
    )

    network = "a network such as 192.0.2.0/24 or 2001:db8::/32, or one address"
    assert faults == [
        "file:1: no entry clints; nearest: clients",
        f'file:2: clients.deny: "10.0.0.1/8" is not allowed; {network}',
        f'file:2: clients.deny: "x" is not allowed; {network}',
        'file:3: rates.pictures.per_second: "-1" is not allowed; a number 0-1000000',
        "file:3: no entry rates.pictures.brst; nearest: rates.pictures.burst",
        "file:3: rates.uploads: must be a mapping of names to values",
        "file:4: proxies.hops: must be one value; a whole number 0-16",
        'file:4: proxies.field: "XFF" is not allowed; X-Forwarded-For, Forwarded',
        'file:5: formats: write: "bmp" is not allowed, only jpg, png, webp, avif, gif, tiff; '
        "write lacks gif, png, which f_auto falls back to",
        'file:6: uploads.body_bytes: "10 MB or so" is not allowed; a whole number 1KiB-1GiB, in bytes or as text like'
        ' "64MiB"',
        "file:6: uploads.parts is given twice",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[", "file: not valid YAML"),
        ("- a\n", "file:1: the document: must be a mapping of names to values"),
        ("a: 1\n---\nb: 2\n", "file: not valid YAML"),
        ("[" * 100_000, "file: not valid YAML"),
        ("clients: {deny: &d [192.0.2.1], allow: *d}", "file:1: aliases are not allowed; repeat the value"),
        ("clients: {deny: [!!python/object/apply:os.getpid []]}", "file:1: the tag tag:yaml.org,2002:python/object"),
        ("clients: !x {deny: []}", "file:1: the tag !x is not allowed"),
        ("formats: {read: []}", "file:1: formats: read is empty"),
        ("#" * (4 << 20) + "\n", "file: not valid YAML: larger than 4194304 bytes"),
    ],
)
def test_a_malformed_document_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    assert faults_of(tmp_path, text)[0].startswith(fault)


def test_an_alias_bomb_is_refused_without_expanding_it(tmp_path: Path) -> None:
    rows = ["a: &a0 [x]"] + [f"b{n}: &a{n + 1} [" + ", ".join([f"*a{n}"] * 9) + "]" for n in range(30)]

    assert faults_of(tmp_path, "\n".join(rows))


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadPolicy, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(BadPolicy, match="cannot be read: Is a directory"):
        load(tmp_path)
