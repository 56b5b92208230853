"""`imgserver keys` creates, rotates and lists keys, and never shows a configured one."""

import re

import pytest
from click.testing import CliRunner, Result

from imgserver.cli import main
from imgserver.security.signing import SigningKey, read_key

OLD = SigningKey(bytes(range(32)))
SHOP = SigningKey(bytes(range(50, 82)), frozenset({"photos"}))


def run(*arguments: str, keys: str = "") -> Result:
    return CliRunner().invoke(main, ["keys", *arguments], env={"IMGSERVER_SIGNING_KEYS": keys})


def test_a_new_key_is_32_random_bytes_in_hex_on_standard_output() -> None:
    first, second = run("new"), run("new")

    assert re.fullmatch("[0-9a-f]{64}\n", first.stdout)
    assert first.stdout != second.stdout
    assert read_key(first.stdout).id in first.stderr
    assert first.stdout.strip() not in first.stderr


def test_a_key_may_be_tied_to_sources() -> None:
    assert re.fullmatch("press[+]shop=[0-9a-f]{64}\n", run("new", "--source", "shop", "--source", "press").stdout)
    assert run("new", "--source", "Shop").exit_code == 2


def test_the_printed_line_is_accepted_by_the_settings() -> None:
    made = run("new").stdout.strip()
    rotated = run("rotate", keys=made).stdout.strip()

    assert run("list", keys=rotated).stdout.splitlines()[1].startswith(read_key(made).id)


def test_rotate_puts_a_new_key_in_front() -> None:
    result = run("rotate", keys=f"{SHOP.serialize()},{OLD.serialize()}")

    new, *others = result.stdout.strip().split(",")
    assert len(read_key(new).secret) == 32
    assert others == [SHOP.serialize(), OLD.serialize()]
    assert f"Key {read_key(new).id} is new and signs" in result.stderr
    assert OLD.secret.hex() not in result.stderr


def test_list_prints_ids_and_uses_but_no_key() -> None:
    result = run("list", keys=f"{SHOP.serialize()},{OLD.serialize()},{'ab' * 16}")

    assert result.stdout.splitlines() == [
        f"{SHOP.id}  signs, verifies  photos",
        f"{OLD.id}  signs, verifies  all sources",
        f"{SigningKey(bytes([0xAB] * 16)).id}  verifies         all sources",
    ]
    for key in (SHOP, OLD):
        assert key.secret.hex()[:16] not in result.output


def test_list_without_keys_says_how_to_create_one() -> None:
    result = run("list")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "imgserver keys new" in result.stderr


@pytest.mark.parametrize("command", ["rotate", "list"])
def test_invalid_keys_are_reported_without_being_shown(command: str) -> None:
    result = run(command, keys="cafecafe")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "signing: key 1 has 4 bytes; at least 16 are needed" in result.stderr
    assert "cafecafe" not in result.stderr
