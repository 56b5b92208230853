"""The registry of sources: its built-in rows, and rows of other packages."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from imgserver.errors import NotFound, ServerFault
from imgserver.observability.audit import discard_event
from imgserver.plan.rendition import Fingerprint, Original
from imgserver.settings.loader import load
from imgserver.sources import SCHEMES, Scheme, Source
from imgserver.sources.config import SourceConfig
from imgserver.sources.origin_cache.origin_cache import OriginCache
from imgserver.testing import FakeOrigin
from imgserver.web.bootstrap.sources import make_source, make_sources

URLS = {
    "file": "file:///",
    "http": "http://a.example/",
    "https": "https://a.example/",
    "s3": "s3://bucket/prefix",
    "gs": "gs://bucket",
    "az": "az://container",
}


class ToySource(Source):
    """One file, whose path is the text after the scheme."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def fingerprint(self, path: str) -> Fingerprint:
        if path != self._file.name:
            raise NotFound()
        return Fingerprint("toy")

    @asynccontextmanager
    async def open(self, path: str):
        fingerprint, body = await self.fingerprint(path), self._file.read_bytes()
        yield Original(str(self._file), body[:16], fingerprint, len(body), None)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch):
    """Registers a row for one test."""

    def register(name: str, scheme: Scheme) -> None:
        monkeypatch.setitem(SCHEMES, name, scheme)

    return register


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_a_built_in_scheme_makes_a_source(scheme, tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    environ = {"IMGSERVER_SOURCE_URL": URLS[scheme], "IMGSERVER_ORIGIN_CACHE_PATH": str(tmp_path)}
    settings = load(None, environ, {}).settings

    assert isinstance(make_source("photos", settings, discard_event), Source)


async def test_a_source_of_another_package_is_named_by_its_url(registered, tmp_path):
    (tmp_path / "red.png").write_bytes(b"red")
    registered("toy", Scheme(lambda config, _: ToySource(Path(config.url.removeprefix("toy:/")))))
    settings = load(None, {"IMGSERVER_SOURCES_TOYS_URL": f"toy:/{tmp_path}/red.png"}, {}).settings
    sources = make_sources(settings, discard_event)
    await sources.start()
    try:
        async with sources.by_name["toys"].open("red.png") as original:
            assert original.head == b"red"
        assert sources.statistics() == {}
    finally:
        await sources.close()


async def test_an_origin_of_another_package_gets_an_origin_cache(registered, tmp_path):
    registered("toy", Scheme(lambda _, context: context.cached(FakeOrigin({"red.png": b"red"}))))
    environ = {"IMGSERVER_SOURCES_TOYS_URL": "toy://box", "IMGSERVER_ORIGIN_CACHE_PATH": str(tmp_path)}
    sources = make_sources(load(None, environ, {}).settings, discard_event)
    await sources.start()
    try:
        async with sources.by_name["toys"].open("red.png") as original:
            assert Path(original.path).read_bytes() == b"red"
        assert isinstance(sources.by_name["toys"], OriginCache)
        assert sources.statistics()["toys"].fetches == 1
    finally:
        await sources.close()


def test_a_scheme_refuses_settings_that_it_does_not_take(registered):
    registered("toy", Scheme(lambda config, _: ToySource(Path(config.url)), settings=frozenset({"region"})))

    SourceConfig(url="toy://box", region="eu")
    with pytest.raises(ValueError, match="headers, writable: not for a source of the scheme toy"):
        SourceConfig(url="toy://box", headers=("A: b",), writable=True)


def test_the_check_of_a_scheme_refuses_a_wrong_url_when_settings_are_read(registered):
    def check(config: SourceConfig) -> None:
        raise ValueError("url: a toy has a color")

    registered("toy", Scheme(lambda config, _: ToySource(Path(config.url)), check=check))

    with pytest.raises(ValueError, match="a toy has a color"):
        SourceConfig(url="toy://box")


def test_a_factory_that_refuses_its_settings_stops_the_start(registered):
    def factory(config: SourceConfig, _: object) -> Source:
        raise ValueError("no such box")

    registered("toy", Scheme(factory))
    settings = load(None, {"IMGSERVER_SOURCE_URL": "toy://box"}, {}).settings

    with pytest.raises(ServerFault, match="source photos: no such box"):
        make_sources(settings, discard_event)


@pytest.mark.parametrize("url", ["file://host/a", "file:///a?b", "file:///a#b", "file:a"])
def test_a_folder_url_has_no_host_query_or_fragment(url):
    with pytest.raises(ValueError, match="url: "):
        SourceConfig(url=url)


def test_a_folder_url_is_decoded():
    assert SourceConfig(url="file:///srv/my%20photos").folder == Path("/srv/my photos")
