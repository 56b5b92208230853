"""What an owner may write of a source, and how faults are told: in a sentence, and without secrets."""

import re
from pathlib import Path

import pytest

from imgserver.settings.loader import BadSettings, load
from imgserver.sources.config import SourceConfig
from tests.running_server import ROOT

EXAMPLES = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "originals.md").read_text(), re.MULTILINE | re.DOTALL)

FAULTS = {
    "both": ({"root": "/tmp", "url": "https://a.example/"}, "a source is a folder or a URL, not both"),
    "scheme": (
        {"url": "ftp://user:hunter22@a.example/"},
        "url: must begin with one of file://, http://, https://, s3://, gs://, az://",
    ),
    "user": (
        {"url": "https://user:hunter22@a.example/"},
        '"https://...@a.example/" is not allowed; a remote URL has no',
    ),
    "query": (
        {"url": "https://a.example/?sig=hunter22"},
        '"https://a.example/?..." is not allowed; an entry ends with',
    ),
    "star": ({"url": "https://*.example/"}, "one URL without a *"),
    "network": (
        {"url": "https://a.example/", "allowed_networks": "10.0.0.0/33"},
        'allowed_networks: "10.0.0.0/33" is not allowed; a network such as 10.1.0.0/16, or one address',
    ),
    "header": ({"url": "https://a.example/", "headers": "Bearer hunter22"}, "headers: line 1 is not allowed"),
    "redirect": (
        {"url": "https://a.example/", "allowed_redirects": "cdn.example"},
        '"cdn.example" is not allowed; a remote URL begins with http:// or https://',
    ),
    "written": ({"url": "https://a.example/", "writable": "true"}, "writable: not for a source of the scheme https"),
    "no-bucket": ({"url": "s3://"}, "url: the URL of an object store is s3://bucket/prefix"),
    "store-query": ({"url": "s3://bucket?sig=hunter22"}, "url: the URL of an object store is s3://bucket/prefix"),
    "store-user": ({"url": "s3://key:hunter22@bucket"}, "url: the URL of an object store is s3://bucket/prefix"),
    "endpoint": ({"url": "s3://bucket", "endpoint": "minio:9000"}, "endpoint: a URL such as https://"),
    "store-headers": ({"url": "s3://bucket", "headers": "A: b"}, "headers: not for a source of the scheme s3"),
    "folder-region": ({"region": "fra1"}, "region: not for a source of the scheme file"),
}


@pytest.mark.parametrize("section", ["SOURCE", "SOURCES_SHOP"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_the_source_and_no_secret(section, name):
    given, sentence = FAULTS[name]
    with pytest.raises(BadSettings) as refused:
        load(None, {f"IMGSERVER_{section}_{key.upper()}": value for key, value in given.items()}, {})

    (fault,) = refused.value.facts["faults"]
    assert sentence in fault
    assert fault.startswith(f"{section.lower().replace('_', '.')}: ")
    assert "hunter22" not in fault


def test_faults_of_several_sections_are_reported_together():
    with pytest.raises(BadSettings) as refused:
        load(None, {"IMGSERVER_REMOTE_ALLOWED_URLS": "a.example", "IMGSERVER_SOURCES_SHOP_URL": "s3://"}, {})

    assert len(refused.value.facts["faults"]) == 2


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("]")[0].strip("["))
def test_every_example_of_the_originals_page_is_valid(example, tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(example.replace('keys = ["..."]', f'keys = ["{"00" * 32}"]'))

    loaded = load(file, {}, {})

    assert any(origin.kind == "file" for origin in loaded.origins.values())


def identity(**given: object) -> str:
    return SourceConfig(**given).identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"root": Path("/tmp")}, {"url": "file:///tmp"}),
        ({"url": "https://a.example/x/"}, {"url": "HTTPS://A.example:443/x/"}),
        (
            {"url": "https://a.example/", "headers": ("Authorization: old", "X-Api-Key: old", "Cookie: old")},
            {"url": "https://a.example/", "headers": ("Authorization: new",)},
        ),
        ({"url": "s3://bucket/x"}, {"url": "s3://bucket/x/"}),
        ({"url": "s3://bucket", "writable": True}, {"url": "s3://bucket"}),
    ],
)
def test_the_identity_of_a_source_depends_on_no_spelling_and_no_credential(one, other):
    assert identity(**one) == identity(**other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"root": Path("/tmp")}, {"root": Path("/usr")}),
        ({"url": "https://a.example/"}, {"url": "http://a.example/"}),
        ({"url": "https://a.example/"}, {"url": "https://b.example/"}),
        ({"url": "https://a.example/"}, {"url": "https://a.example:8443/"}),
        ({"url": "https://a.example/x/"}, {"url": "https://a.example/y/"}),
        ({"url": "https://a.example/"}, {"url": "https://a.example/", "headers": ("X-Tenant: shop",)}),
        ({"url": "s3://bucket"}, {"url": "gs://bucket"}),
        ({"url": "s3://bucket/a"}, {"url": "s3://bucket/b"}),
        ({"url": "s3://bucket"}, {"url": "s3://bucket", "endpoint": "https://fra1.digitaloceanspaces.com"}),
        ({"url": "s3://bucket", "region": "eu-west-1"}, {"url": "s3://bucket", "region": "cn-north-1"}),
    ],
)
def test_sources_with_different_originals_have_different_identities(one, other):
    assert identity(**one) != identity(**other)


@pytest.mark.parametrize(
    ("config", "variable"),
    [
        ({"url": "s3://bucket"}, "AWS_ENDPOINT_URL"),
        ({"url": "s3://bucket"}, "AWS_ENDPOINT"),
        ({"url": "az://container"}, "AZURE_STORAGE_ACCOUNT_NAME"),
        ({"url": "az://container", "env_prefix": "SHOP_"}, "SHOP_AZURE_STORAGE_ACCOUNT_NAME"),
        ({"url": "gs://bucket"}, "GOOGLE_BASE_URL"),
    ],
)
def test_the_environment_can_name_another_store(config, variable, monkeypatch):
    before = identity(**config)
    monkeypatch.setenv(variable, "other")

    assert identity(**config) != before


@pytest.mark.parametrize("variable", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_credentials_in_the_environment_are_no_part_of_the_identity(variable, monkeypatch):
    before = identity(url="s3://bucket")
    monkeypatch.setenv(variable, "new")

    assert identity(url="s3://bucket") == before
