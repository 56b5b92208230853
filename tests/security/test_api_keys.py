import pytest

from imgserver.errors import Forbidden, Unauthorized
from imgserver.security.api_keys import ADMIN_ID, ApiKeys, ApiKeySettings, digest_of, new_key

KEY, OLD = new_key("ci"), new_key("ci")
ROW = ApiKeySettings("upload", digest_of(KEY), digest_of(OLD))


def bearer(key: str) -> str:
    return f"Bearer {key}"


def test_a_key_begins_with_its_id_and_is_unique():
    keys = {new_key("ci") for _ in range(100)}

    assert len(keys) == 100
    assert all(key.startswith("ci.") and len(key) == 3 + 43 for key in keys)


@pytest.mark.parametrize("name", ["", "CI", "1a", "a b", "a.b", "x" * 33, "-a"])
def test_a_malformed_id_is_refused(name):
    with pytest.raises(ValueError, match="an id is"):
        new_key(name)


@pytest.mark.parametrize("key", [KEY, OLD], ids=["new", "old"])
def test_two_keys_of_an_id_are_valid_during_a_rotation(key):
    assert ApiKeys({"ci": ROW}).check(bearer(key), "upload") == "ci"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_the_scheme_is_case_insensitive(scheme):
    assert ApiKeys({"ci": ROW}).check(f"{scheme} {KEY}", "upload") == "ci"


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (None, "no_key"),
        ("", "no_key"),
        (KEY, "malformed"),
        (f"Basic {KEY}", "malformed"),
        ("Bearer", "malformed"),
        ("Bearer " + "x" * 1001, "malformed"),
        (f"Bearer {KEY} {KEY}", "unknown_key"),
        (bearer(KEY[:-1]), "unknown_key"),
        (bearer(KEY + "x"), "unknown_key"),
        (bearer(new_key("ci")), "unknown_key"),
        (bearer(digest_of(KEY)), "unknown_key"),
        ("Bearer \udcff\udcfe", "unknown_key"),
    ],
    # Keys are random, and every process of a run must collect the same names.
    ids=[
        "none",
        "empty",
        "no scheme",
        "basic",
        "no key",
        "long",
        "two keys",
        "cut",
        "longer",
        "new",
        "digest",
        "bytes",
    ],
)
def test_every_other_authorization_is_refused_with_its_reason(field, reason):
    with pytest.raises(Unauthorized) as caught:
        ApiKeys({"ci": ROW}).check(field, "upload")

    assert caught.value.facts["reason"] == reason
    assert KEY not in str(caught.value.facts)


def test_a_key_without_the_scope_is_refused_and_named():
    with pytest.raises(Forbidden) as caught:
        ApiKeys({"ci": ROW}).check(bearer(KEY), "purge")

    assert caught.value.facts == {"reason": "missing_scope", "key": "ci"}


@pytest.mark.parametrize("scope", ["upload", "purge", "metrics", "admin"])
def test_admin_includes_every_scope(scope):
    keys = ApiKeys({"boss": ApiKeySettings("admin", digest_of(KEY))}, admin_key="a-key-without-an-id")

    assert keys.check(bearer(KEY), scope) == "boss"
    assert keys.check(bearer("a-key-without-an-id"), scope) == ADMIN_ID


def test_a_server_without_keys_accepts_no_key():
    keys = ApiKeys({}, admin_key="")

    assert not keys.grants("upload")
    with pytest.raises(Unauthorized):
        keys.check("Bearer ", "upload")


def test_the_scopes_of_a_server_are_known_without_a_key():
    keys = ApiKeys({"ci": ROW})

    assert keys.grants("upload")
    assert not keys.grants("purge")
    assert repr(keys) == "<ApiKeys ci (upload)>"


@pytest.mark.parametrize(
    "values",
    [
        {"scopes": "upload"},
        {"digest": "0" * 64},
        {"scopes": "uploads", "digest": "0" * 64},
        {"scopes": "upload", "digest": "0" * 63},
        {"scopes": "upload", "digest": "A" * 64},
        {"scopes": "upload", "digest": KEY},
        {"scopes": "upload", "digest": "0" * 64, "old_digest": "0"},
        {"old_digest": "0" * 64},
    ],
)
def test_a_row_without_scopes_or_with_unknown_scopes_is_refused(values):
    with pytest.raises(ValueError, match=r"scopes|digest"):
        ApiKeySettings(**values)
