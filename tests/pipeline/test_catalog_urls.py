"""A catalogue of songs behind URLs: what is fetched, when again, and what a server out of order costs."""

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from test_catalog import everything, header, put

from pipeline.audio import Probe
from pipeline.errors import BackendUnavailable
from pipeline.records.catalog import Catalog
from pipeline.records.library import Source


def test_urls_are_read_through_fsspec(tmp_path):
    with fsspec.open("memory://songs/a.wav", "wb") as file:
        file.write(b"song")
    catalog = Catalog(tmp_path, lambda uri: Probe(1.0, 44_100, 1))
    catalog.add([Source("memory://songs/a.wav"), Source("memory://songs/b.wav")])
    assert [(row.bytes, row.error) for row in everything(catalog)] == [(4, ""), (0, "missing")]
    with pytest.raises(BackendUnavailable, match="no file system"):
        catalog.add([Source("nonsense://songs/a.wav")])


class ClientError(Exception):
    """As aiohttp's: no `OSError`."""


class Remote(MemoryFileSystem):
    """A server that counts what is fetched, may know a hash of the content, and may be out of order."""

    protocol, store, pseudo_dirs = "remote", {}, [""]  # as fsspec's own
    fetched, hashes, broken = 0, True, False

    def info(self, path, **kwargs):
        if Remote.broken:
            raise ClientError("503, try later")
        found = super().info(path, **kwargs)
        return {"size": found["size"]} | ({"ETag": hash(self.cat_file(path))} if Remote.hashes else {})

    def _open(self, path, mode="rb", **kwargs):
        Remote.fetched += mode == "rb"
        if Remote.broken:
            raise ClientError("503, try later")
        return super()._open(path, mode, **kwargs)


@pytest.fixture
def remote(monkeypatch):
    fsspec.register_implementation("remote", Remote, clobber=True)
    for name in ("fetched", "hashes", "broken"):
        monkeypatch.setattr(Remote, name, getattr(Remote, name))
    with fsspec.open("remote://songs/a.wav", "wb") as file:
        file.write(b"song")
    return Remote


@pytest.mark.parametrize(("hashes", "fetches"), [(True, 1), (False, 2)])
def test_a_url_is_fetched_again_only_where_its_server_can_not_tell_a_change(tmp_path, remote, hashes, fetches):
    remote.hashes = hashes
    catalog = Catalog(tmp_path, lambda uri: Probe(1.0, 44_100, 1))
    for _ in range(2):
        catalog.add([Source("remote://songs/a.wav")])
    assert remote.fetched == fetches
    with fsspec.open("remote://songs/a.wav", "wb") as file:
        file.write(b"gnos")
    assert catalog.add([Source("remote://songs/a.wav")]) == [1]


def test_a_clients_error_quarantines_its_song_alone_until_it_can_be_read(tmp_path, remote):
    def probe(uri: str) -> Probe:
        if remote.hashes:
            raise ClientError("reset by peer")
        return Probe(1.0, 44_100, 1)

    [local] = put(tmp_path / "lib", a="one")
    catalog, sources = Catalog(tmp_path, header), [Source("remote://songs/a.wav"), local]
    remote.broken = True
    catalog.add(sources)
    assert [row.error for row in everything(catalog)] == ["unreadable", ""]
    assert "ClientError: 503" in everything(catalog)[0].message
    remote.broken, catalog.probe = False, probe
    assert catalog.add(sources) == []  # its bytes can be fetched, its header can't
    remote.hashes = False
    assert catalog.add(sources) == [1]
    assert [row.error for row in everything(catalog)] == ["unreadable", "", ""]
